// dx on CUDA. Each filter has a *plane*, the gradient of what it computes: g for C, s g∘b_j for A_j and s g∘a_j for
// B_j. dx is the sum of the transposed convolutions of all planes.
#pragma once
#include "engine/ops/depthwise/sums.cuh"

namespace parabola::depthwise {

// Of a number of images, which the pointers begin with; but planes has only theirs, [2 J, images, Ho, Wo, C]. Planes
// are numbered: g is 0, then come those of a_0, b_0, a_1, b_1, ...
template <class T>
struct InputGradientData {
  const T *dy, *planes, *weight, *a, *b;
  T* dx;
  bool accumulate;
  int64_t images;
  int begin, end;  // planes to add up
};

template <class T, class Source>
__device__ void add_plane(const Layer& layer, const Tiling& tiling, const InputGradientData<T>& data, int plane,
                          const Place& place, int row, T (&sums)[1][run_pixels]) {
  const bool is_linear = plane == 0;
  const int64_t factor = plane - 1;
  const Filter f = is_linear ? layer.linear : layer.factors;
  const T* gradients = is_linear ? data.dy : data.planes + factor * data.images * layer.pixels() * layer.C;
  const T* filters = is_linear ? data.weight : (factor % 2 == 0 ? data.a : data.b) + factor / 2 * f.taps() * layer.C;
  const T* filter[1] = {filters + place.channel};
  const Source source = Source::open(Image<T>(gradients, place, layer.C, layer.Ho, layer.Wo),
                                     f.outputs(place.row, place.column, tiling.tile_rows), 0);
  if (row < layer.H) add_taps(source, input_taps(f, row, place.column), filter, f.S, layer.C, sums);
}

// A warp has one of its tile's rows, whose sums stay in registers while one plane after the other is in shared memory.
template <class T, class Source>
__global__ void __launch_bounds__(most_threads)
    depthwise_input_gradient(Layer layer, Tiling tiling, InputGradientData<T> data) {
  const int64_t groups = tiling.groups(), tiles = data.images * tiling.tiles_in_image() * groups;
  for (int64_t index = blockIdx.x; index < tiles; index += gridDim.x) {
    const Place place = tiling.place(index / groups, index % groups);
    const int row = place.row + warp_index();
    T sums[1][run_pixels] = {};
    for (int plane = data.begin; plane < data.end; ++plane)
      add_plane<T, Source>(layer, tiling, data, plane, place, row, sums);
    T* dx = data.dx + (place.image * layer.H + row) * layer.W * layer.C + place.channel;
#pragma unroll
    for (int i = 0; i < run_pixels; ++i) {
      const int column = place.column + i * tiling.spacing;
      if (place.idle || row >= layer.H || column >= layer.W) continue;
      T& to = dx[column * layer.C];
      to = data.accumulate ? to + sums[0][i] : sums[0][i];
    }
  }
}

template <class T>
void add_planes(const Layer& layer, const InputGradientData<T>& data, DeviceStream stream) {
  const Filter &first = data.begin == 0 ? layer.linear : layer.factors, &last = data.end > 1 ? layer.factors : first;
  Tiling tiling{layer.C, layer.H, layer.W, first.stride};
  size_t shared = 0;
  const bool fits = tiling.fit([&] {
    const auto pixels = [&](const Filter& f) {
      return tiling.largest([&](int row, int column, int rows) { return f.outputs(row, column, rows); });
    };
    return shared = static_cast<size_t>(std::max(pixels(first), pixels(last))) * warp_size * sizeof(T);
  });
  const dim3 blocks = blocks_for(data.images * tiling.tiles_in_image() * tiling.groups(), 1);
  const int threads = tiling.tile_rows * warp_size;
  if (fits)
    launch(depthwise_input_gradient<T, SharedTile<T>>, blocks, threads, shared, stream, layer, tiling, data);
  else
    launch(depthwise_input_gradient<T, Image<T>>, blocks, threads, 0, stream, layer, tiling, data);
}

// Filters of different strides have no runs in common, so they take turns.
template <class T>
void add_input_gradient(const Layer& layer, InputGradientData<T> data, DeviceStream stream) {
  data.begin = layer.linear ? 0 : 1, data.end = 1 + 2 * layer.rank;
  if (layer.linear && layer.factors && layer.linear.stride != layer.factors.stride) {
    data.end = 1;
    add_planes(layer, data, stream);
    data.begin = 1, data.end = 1 + 2 * layer.rank, data.accumulate = true;
  }
  add_planes(layer, data, stream);
}

}  // namespace parabola::depthwise
