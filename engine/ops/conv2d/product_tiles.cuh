// The kernel that computes a PatchProduct, and which tiles it goes by.
#pragma once
#include "engine/ops/conv2d/patch_product.cuh"

namespace parabola {

// Results go to y by four where `vectors` says that they may.
template <class T, class Tile>
__device__ void write_results(const PatchProduct& p, const ProductSums<T, Tile>& results, const PatchPixel* pixels,
                              int first_output, const T* bias, T* y, bool accumulate, bool vectors) {
#pragma unroll
  for (int q = 0; q < results.quads; ++q) {
    const int first = first_output + results.first_channel(q), rest = p.outputs - first;
    Values<T, 4> shift{};
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (bias && j < rest) shift.values[j] = bias[first + j];
#pragma unroll
    for (int i = 0; i < thread_pixels; ++i) {
      const int to = pixels[results.pixel + i * Tile::pixel_lanes].to;
      if (to < 0 || rest <= 0) continue;
      Values<T, 4> sum = results.quad(i, q);
      T* out = y + to + first;
#pragma unroll
      for (int j = 0; j < 4; ++j) sum.values[j] += shift.values[j];
      if (vectors) {
        const Values<T, 4> old = accumulate ? load_values<4>(out) : Values<T, 4>{};
#pragma unroll
        for (int j = 0; j < 4; ++j) sum.values[j] = accumulate ? old.values[j] + sum.values[j] : sum.values[j];
        store_values(out, sum);
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (j < rest) out[j] = accumulate ? out[j] + sum.values[j] : sum.values[j];
      }
    }
  }
}

template <class T, class Tile>
constexpr int product_blocks = sizeof(T) > 4 ? 1 : Tile::blocks;

// Grid: channel tiles, which share their patches, groups and pixel tiles; phases.
template <class T, class Tile, int width>
__global__ void __launch_bounds__(Tile::threads, product_blocks<T, Tile>)
    conv2d_patch_product(PatchProduct p, const T* x, const T* weight, const T* bias, T* y, bool accumulate,
                         bool vectors) {
  const PatchPhase phase = p.phases[blockIdx.y];
  PatchPixel* pixels = shared_memory<PatchPixel>();
  T* stages = reinterpret_cast<T*>(pixels + Tile::pixels);
  const int tile = static_cast<int>(blockIdx.x), channel_tiles = (p.outputs + Tile::channels - 1) / Tile::channels;
  const int group = tile / channel_tiles % p.groups, first_output = tile % channel_tiles * Tile::channels;
  const int first_pixel = tile / channel_tiles / p.groups * Tile::pixels;
  for (int i = static_cast<int>(threadIdx.x); i < Tile::pixels; i += Tile::threads)
    pixels[i] = p.pixel(phase, first_pixel + i);
  __syncthreads();

  const int first_channel = group * p.source.channels;
  const WeightRange range{group * p.weight_group + first_output * p.weight_output + phase.first_weight,
                          std::min(p.outputs - first_output, int{Tile::channels})};
  const int chunks = (phase.grid.depth() + product_chunk - 1) / product_chunk;
  ProductLoads<T, Tile, width> loads(phase.grid);
  ProductSums<T, Tile> results;
  loads.load(p, phase, pixels, x, first_channel, weight, range);
  loads.store(stages);
  __syncthreads();
  for (int i = 0; i < chunks; ++i) {  // the last time no tap exists and nothing is read
    loads.load(p, phase, pixels, x, first_channel, weight, range);
    results.add(stages + i % 2 * Tile::stage);
    loads.store(stages + (i + 1) % 2 * Tile::stage);
    __syncthreads();
  }
  results.add_slices(stages);
  if (results.slice == 0)
    write_results(p, results, pixels, first_output, bias ? bias + group * p.outputs : nullptr, y + group * p.outputs,
                  accumulate, vectors);
}

template <class T, class Tile>
void launch_product(DeviceStream stream, const PatchProduct& p, int phases, const T* x, const T* weight, const T* bias,
                    T* y, bool accumulate) {
  int64_t pixels = 0;
  for (int i = 0; i < phases; ++i) pixels = std::max<int64_t>(pixels, p.phases[i].grid.pixels());
  const int64_t tiles =
      (pixels + Tile::pixels - 1) / Tile::pixels * p.groups * ((p.outputs + Tile::channels - 1) / Tile::channels);
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(phases));
  const bool fours = p.source.channels % 4 == 0 && begins_at_vector(x) && begins_at_vector(weight);
  launch(fours ? conv2d_patch_product<T, Tile, 4> : conv2d_patch_product<T, Tile, 1>, grid, Tile::threads,
         Tile::template shared_bytes<T>(), stream, p, x, weight, bias, y, accumulate,
         p.outputs % 4 == 0 && begins_at_vector(y));
}

// Tiles from the one that computes fastest to the one that makes most blocks: the first whose blocks fill a large chip
// (the H100 has 132 multiprocessors), and of whose channels the last tile does not leave half idle.
constexpr int64_t chip_blocks = on_emulated_grid ? 2 : 120;

template <class T, class Use>
void with_product_tile(int64_t pixels, int64_t groups, int64_t outputs, const Use& use) {
  const auto fill_chip = [&](int64_t tile_pixels, int64_t tile_channels) {
    return (pixels + tile_pixels - 1) / tile_pixels * groups * ((outputs + tile_channels - 1) / tile_channels) >=
           chip_blocks;
  };
  if (outputs <= 16 && fill_chip(256, 16)) return use.template operator()<PatchTile<256, 16, 4, 256, 2>>();
  if ((outputs - 1) % 64 >= 32 && fill_chip(128, 64)) return use.template operator()<PatchTile<128, 64, 4, 256, 2>>();
  if (outputs > 16 && fill_chip(128, 32)) return use.template operator()<PatchTile<128, 32, 4, 256, 2>>();
  use.template operator()<PatchTile<64, 32, 4, 256, 2>>();
}

}  // namespace parabola
