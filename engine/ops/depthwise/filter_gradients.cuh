// The gradients of all filters and of bias on CUDA, and the planes that dx is made of (input_gradient.cuh). With g the
// gradient of y: dbias = sum g, dC = corr(x, g), dA_j = corr(x, s g∘b_j), dB_j = corr(x, s g∘a_j). x is read once; a_j
// and b_j are computed from it again, unless forward kept them.
#pragma once
#include "engine/ops/depthwise/sums.cuh"

namespace parabola::depthwise {

// Of a number of images, which the pointers begin with; but planes has only theirs, [2 J, images, Ho, Wo, C].
template <class T>
struct FilterGradientData {
  const T *x, *dy, *a, *b, *kept[2];  // kept: a_j and b_j, [J, N, Ho, Wo, C]; null: not needed, or not kept
  T* planes;                          // null: not wanted
  bool factors;                       // whether planes, dA_j or dB_j are wanted
  T* partials;                        // [parts][sums][C]
  bool totals_in_shared;              // whether a part's sums find room there
  int64_t sums, first[5];             // where an input's gradient begins in the sums; -1: not wanted
  int64_t parts, images, tiles_before;

  __device__ bool wants(int input) const { return first[input] >= 0; }
};

// What the threads of a block know of their tile. A row of a plane is computed and read by the same thread.
template <class T, class Source>
struct TileGradients {
  const Layer& layer;
  const FilterGradientData<T>& data;
  const Place place;
  const int rows;  // that the image has here
  const int64_t plane_size;
  T* planes;  // of this lane, in shared memory: [2][rows][run_pixels]
  const Totals<T>& totals;
  const Source x;
  const Image<T> dy;

  __device__ T* plane_row(int plane, int row) const {
    return planes + plane * plane_size + int64_t{row} * run_pixels * warp_size;
  }

  // Adds the tile's corr(x, plane), for neighbouring planes of the same filter's shape, to the sums from to[t] on.
  template <int terms>
  __device__ void correlate(const Filter& f, int plane, const int64_t (&to)[terms]) const {
    const bool known_row = Source::is_tile && f.S == 7 && f.stride == 1 && f.dilation == 1;
    const int lanes = known_row ? 7 : taps_at_once;
    for (int first = 0; first < f.taps(); first += lanes) {
      T values[terms][taps_at_once] = {};
      for (int row = warp_index(); row < rows; row += warps_in_block()) {
        T gradients[terms][run_pixels];
#pragma unroll
        for (int t = 0; t < terms; ++t)
#pragma unroll
          for (int i = 0; i < run_pixels; ++i) gradients[t][i] = plane_row(plane + t, row)[i * warp_size];
        const int top = (place.row + row) * f.stride - f.padding, left = place.column * f.stride - f.padding;
        if (known_row)
          slide<1, 7>(x, top + first / 7, left, gradients, values);
        else
          add_pixels(f, first, top, left, gradients, values);
      }
#pragma unroll
      for (int t = 0; t < terms; ++t) totals.add(values[t], std::min(lanes, f.taps() - first), to[t] + first);
    }
  }

  // values[t][k] += the sum over a run's pixels of x at tap first + k times gradients[t].
  template <int terms>
  __device__ void add_pixels(const Filter& f, int first, int top, int left, const T (&gradients)[terms][run_pixels],
                             T (&values)[terms][taps_at_once]) const {
    int r = first / f.S, s = first % f.S;
#pragma unroll
    for (int k = 0; k < taps_at_once; ++k) {
      if (first + k >= f.taps()) break;
#pragma unroll
      for (int i = 0; i < run_pixels; ++i) {
        const T value = x.at(top + r * f.dilation, left + s * f.dilation + i * f.stride);
#pragma unroll
        for (int t = 0; t < terms; ++t) values[t][k] = std::fma(value, gradients[t][i], values[t][k]);
      }
      if (++s == f.S) s = 0, ++r;
    }
  }

  // Plane 0: g.
  __device__ void add_linear() const {
    T sum[1] = {};
    for (int row = warp_index(); row < rows; row += warps_in_block())
#pragma unroll
      for (int i = 0; i < run_pixels; ++i)
        sum[0] += plane_row(0, row)[i * warp_size] = dy.at(place.row + row, place.column + i);
    if (data.wants(input_bias)) totals.add(sum, 1, data.first[input_bias]);
    if (data.wants(input_weight)) correlate<1>(layer.linear, 0, {data.first[input_weight]});
  }

  // Planes 0 and 1: s g∘b_j for A_j and s g∘a_j for B_j.
  __device__ void add_factors(int64_t j) const {
    for (int row = warp_index(); row < rows; row += warps_in_block()) {
      T factors[2][run_pixels] = {};
      find_factors(j, place.row + row, factors);
#pragma unroll
      for (int i = 0; i < run_pixels; ++i) {
        const int column = place.column + i;
        const T g = static_cast<T>(layer.scale) * dy.at(place.row + row, column);
        const int64_t pixel = (place.row + row) * int64_t{layer.Wo} + column;
#pragma unroll
        for (int t = 0; t < 2; ++t) {
          const T gradient = plane_row(t, row)[i * warp_size] = g * factors[1 - t][i];
          const int64_t image = (2 * j + t) * data.images + place.image;
          if (data.planes && !place.idle && column < layer.Wo)
            data.planes[(image * layer.pixels() + pixel) * layer.C + place.channel] = gradient;
        }
      }
    }
    const int64_t first = j * layer.factors.taps();
    const int64_t of_a = data.first[input_a] + first, of_b = data.first[input_b] + first;
    if (data.wants(input_a) && data.wants(input_b)) {
      correlate<2>(layer.factors, 0, {of_a, of_b});
    } else if (data.wants(input_a) || data.wants(input_b)) {
      correlate<1>(layer.factors, data.wants(input_a) ? 0 : 1, {data.wants(input_a) ? of_a : of_b});
    }
  }

  // a_j and b_j of a run. If one of them is not needed, its filter need not be there, and it is the other once more.
  __device__ void find_factors(int64_t j, int row, T (&factors)[2][run_pixels]) const {
    if (data.kept[0] || data.kept[1]) {
      for (int t = 0; t < 2; ++t) {
        if (!data.kept[t]) continue;
        const T* kept = data.kept[t] + j * layer.N * layer.pixels() * layer.C;
        const Image<T> image(kept, place, layer.C, layer.Ho, layer.Wo);
        for (int i = 0; i < run_pixels; ++i) factors[t][i] = image.at(row, place.column + i);
      }
    } else {
      const int64_t first = j * layer.factors.taps() * layer.C + place.channel;
      const T* filters[2] = {(data.a ? data.a : data.b) + first, (data.b ? data.b : data.a) + first};
      add_taps(x, output_taps(layer.factors, row, place.column), filters, layer.factors.S, layer.C, factors);
    }
  }
};

// In shared memory: planes, scratch, totals if there is room, and the tile of x.
template <class T, class Source>
__global__ void __launch_bounds__(block_size, 2)
    depthwise_filter_gradients(Layer layer, Tiling tiling, FilterGradientData<T> data) {
  T* planes = shared_memory<T>() + lane_index();
  const int64_t plane_size = int64_t{tiling.tile_rows} * run_pixels * warp_size;
  T* scratch = planes + (layer.factors ? 2 : 1) * plane_size;
  T* totals_in_shared = scratch + taps_at_once * blockDim.x;
  const int64_t tile_offset = totals_in_shared - planes + (data.totals_in_shared ? data.sums * warp_size : 0);
  const int64_t groups = tiling.groups(), tiles = data.images * tiling.tiles_in_image();
  for (int64_t index = blockIdx.x; index < data.parts * groups; index += gridDim.x) {
    const int64_t part = index / groups, before = data.tiles_before % data.parts;
    const int64_t begin = part >= before ? part - before : part - before + data.parts;  // its first tile
    if (begin >= tiles) continue;
    const Place first = tiling.place(begin, index % groups);
    T* partials = data.partials + part * data.sums * layer.C + first.channel;
    const Totals<T> totals{data.totals_in_shared ? totals_in_shared : partials, scratch,
                           data.totals_in_shared ? warp_size : layer.C, first.idle};
    const bool is_first = data.tiles_before + begin == part;
    for (int64_t i = warp_index(); i < data.sums && !first.idle; i += warps_in_block())
      totals.sums[i * totals.pitch] = is_first ? T(0) : partials[i * layer.C];
    for (int64_t tile = begin; tile < tiles; tile += data.parts) {
      const Place place = tiling.place(tile, index % groups);
      const Window window = layer.inputs(place.row, place.column, tiling.tile_rows);
      const TileGradients<T, Source> gradients{
          layer,
          data,
          place,
          std::min(tiling.tile_rows, layer.Ho - place.row),
          plane_size,
          planes,
          totals,
          Source::open(Image<T>(data.x, place, layer.C, layer.H, layer.W), data.x ? window : Window{}, tile_offset),
          Image<T>(data.dy, place, layer.C, layer.Ho, layer.Wo)};
      if (data.wants(input_bias) || data.wants(input_weight)) gradients.add_linear();
      for (int64_t j = 0; data.factors && j < layer.rank; ++j) gradients.add_factors(j);
    }
    __syncthreads();
    for (int64_t i = warp_index(); i < data.sums && !first.idle; i += warps_in_block())
      partials[i * layer.C] = totals.sums[i * totals.pitch];
  }
}

}  // namespace parabola::depthwise
