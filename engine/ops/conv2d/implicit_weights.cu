#include "engine/ops/conv2d/implicit.cuh"
#include "engine/ops/conv2d/weight_parts.cuh"

namespace parabola {
namespace {

// partials [parts][groups][outputs][depth]. Grid: tiles of the patch, of the outputs, groups; parts.
template <class T, class Tile, int width>
__global__ void __launch_bounds__(weight_threads)
    conv2d_weight_parts(WeightProduct p, const T* x, const T* dy, T* partials) {
  PatchPixel* pixels = shared_memory<PatchPixel>();  // [2][48]
  T* stages = reinterpret_cast<T*>(pixels + 2 * part_step);
  const int depth = p.grid.depth(), depth_tiles = (depth + Tile::depth - 1) / Tile::depth;
  const int output_tiles = (p.outputs + Tile::outputs - 1) / Tile::outputs, tile = static_cast<int>(blockIdx.x);
  const int first_depth = tile % depth_tiles * Tile::depth;
  const int first_output = tile / depth_tiles % output_tiles * Tile::outputs, group = tile / depth_tiles / output_tiles;
  const int part = static_cast<int>(blockIdx.y), begin = part * p.part_pixels;
  const int end = std::min(begin + p.part_pixels, p.grid.pixels());
  const int steps = (end - begin + part_step - 1) / part_step, thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < 2 * part_step; i += weight_threads) pixels[i] = p.pixel(begin + i, end);
  __syncthreads();

  const int outputs = p.outputs - first_output, first_element = group * p.outputs + first_output;
  WeightLoads<T, Tile, width> loads(p, first_depth, group);
  WeightSums<T, Tile> results;
  loads.load(p.source, pixels, x, dy, first_element, outputs);
  loads.store(stages);
  __syncthreads();
  for (int i = 0; i < steps; ++i) {  // the last time all pixels are beyond the end and nothing is read
    loads.load(p.source, pixels + (i + 1) % 2 * part_step, x, dy, first_element, outputs);
    results.add(stages + i % 2 * Tile::stage);
    loads.store(stages + (i + 1) % 2 * Tile::stage);
    if (thread < part_step) pixels[i % 2 * part_step + thread] = p.pixel(begin + (i + 2) * part_step + thread, end);
    __syncthreads();
  }
  results.store(stages);
  __syncthreads();
  partials += (int64_t{part} * p.groups + group) * p.outputs * depth;
  for (int i = thread; i < Tile::outputs * Tile::depth; i += weight_threads) {
    const int output = first_output + i / Tile::depth, place = first_depth + i % Tile::depth;
    T sum = 0;
#pragma unroll
    for (int slice = 0; slice < Tile::slices; ++slice) sum += stages[slice * Tile::outputs * Tile::depth + i];
    if (output < p.outputs && place < depth) partials[output * depth + place] = sum;
  }
}

// dw = or += the sum of the parts. A block takes 32 neighbours, its warps every so-many-th part of them.
template <class T>
__global__ void conv2d_add_weight_parts(const T* partials, int64_t parts, int64_t count, T* dw, bool accumulate) {
  T* sums = shared_memory<T>();  // [warps][32]
  for (int64_t first = int64_t{blockIdx.x} * warp_size; first < count; first += int64_t{gridDim.x} * warp_size) {
    const int64_t i = first + lane_index();
    T sum = 0;
    for (int64_t part = warp_index(); i < count && part < parts; part += warps_in_block())
      sum += partials[part * count + i];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (warp_index() == 0 && i < count) {
      for (int warp = 1; warp < warps_in_block(); ++warp) sum += sums[warp * warp_size + lane_index()];
      dw[i] = accumulate ? dw[i] + sum : sum;
    }
    __syncthreads();
  }
}

template <class Use>
void with_weight_tile(int64_t outputs, const Use& use) {
  if (outputs <= 16) return use.template operator()<WeightTile<16, 1>>();
  if ((outputs - 1) % 64 < 32) return use.template operator()<WeightTile<32, 1>>();  // of 64, half would be idle
  use.template operator()<WeightTile<64, 1>>();
}

// As many parts as give a large chip's multiprocessors four blocks each, two at a time, and not one more, which would
// take as long as all before it; but of some 200 pixels at least: a part ends with work that does not depend on its
// length.
constexpr int64_t most_blocks = on_emulated_grid ? 6 : 4 * 132, least_steps = on_emulated_grid ? 1 : 4;

template <class Tile>
WeightProduct weight_product(const ConvGeometry& g) {
  const auto up = [](int64_t count, int64_t size) { return (count + size - 1) / size; };
  const int64_t tiles = up(g.depth(), Tile::depth) * up(g.group_outputs(), Tile::outputs) * g.groups;
  const int64_t steps = std::max<int64_t>(1, up(g.pixels(), part_step));
  const int64_t part_steps = up(steps, std::min(std::max<int64_t>(1, most_blocks / tiles), up(steps, least_steps)));
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  return {{i(g.H), i(g.W), i(g.C), i(g.group_inputs()), i(g.stride), i(g.dilation)},
          {forward_sampling(g), g.groups},
          i(g.groups),
          i(g.group_outputs()),
          i(part_steps * part_step),
          i(up(steps, part_steps))};
}

template <class T, class Tile>
void launch_weight_gradient(DeviceStream stream, const ConvGeometry& g, const WeightProduct& p, const T* x, const T* dy,
                            T* dw, bool accumulate, T* partials) {
  const int64_t tiles = (g.depth() + Tile::depth - 1) / Tile::depth *
                        ((g.group_outputs() + Tile::outputs - 1) / Tile::outputs) * g.groups;
  const bool fours = p.source.channels % 4 == 0 && p.outputs % 4 == 0 && begins_at_vector(x) && begins_at_vector(dy);
  launch(fours ? conv2d_weight_parts<T, Tile, 4> : conv2d_weight_parts<T, Tile, 1>,
         dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(p.parts)), weight_threads,
         Tile::template shared_bytes<T>(), stream, p, x, dy, partials);
  launch(conv2d_add_weight_parts<T>, blocks_for(g.weight_elements(), warp_size), block_size, block_size * sizeof(T),
         stream, partials, p.parts, g.weight_elements(), dw, accumulate);
}

}  // namespace

template <class T>
void device_implicit_weight_gradient(DeviceStream stream, const ConvGeometry& g, const T* x, const T* dy, T* dw,
                                     bool accumulate, T* workspace) {
  with_weight_tile(g.group_outputs(), [&]<class Tile>() {
    launch_weight_gradient<T, Tile>(stream, g, weight_product<Tile>(g), x, dy, dw, accumulate, workspace);
  });
}

int64_t implicit_weight_gradient_elements(const ConvGeometry& g) {
  int64_t elements = 0;
  with_weight_tile(g.group_outputs(),
                   [&]<class Tile>() { elements = weight_product<Tile>(g).parts * g.weight_elements(); });
  return elements;
}

#define PARABOLA_IMPLICIT_WEIGHTS(T) \
  template void device_implicit_weight_gradient(DeviceStream, const ConvGeometry&, const T*, const T*, T*, bool, T*);
PARABOLA_IMPLICIT_WEIGHTS(float)
PARABOLA_IMPLICIT_WEIGHTS(double)

}  // namespace parabola
