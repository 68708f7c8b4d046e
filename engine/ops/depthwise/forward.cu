// The forward kernel of the depthwise family on CUDA; forward.cc is the CPU's.
#include "engine/ops/depthwise/cuda.h"
#include "engine/ops/depthwise/sums.cuh"

namespace parabola::depthwise {
namespace {

template <class T>
constexpr int blocks_at_once = sizeof(T) == 4 ? 2 : 1;  // on a multiprocessor; the registers are cut accordingly

// kept: where a_j and b_j go, [J, N, Ho, Wo, C] each, or null.
template <class T>
struct ForwardData {
  const T *x, *weight, *bias, *a, *b;
  T *y, *kept[2];
};

// product += a_j * b_j.
template <class T, class Source>
__device__ void add_product(const Layer& layer, const ForwardData<T>& data, const Place& place, const Source& source,
                            int row, int64_t j, T (&product)[run_pixels]) {
  const int64_t first = j * layer.factors.taps() * layer.C + place.channel;
  const T* filters[2] = {data.a + first, data.b + first};
  T factors[2][run_pixels] = {};
  add_taps(source, output_taps(layer.factors, row, place.column), filters, layer.factors.S, layer.C, factors);
#pragma unroll
  for (int i = 0; i < run_pixels; ++i) {
    product[i] = std::fma(factors[0][i], factors[1][i], product[i]);
    if (!data.kept[0] || place.idle || place.column + i >= layer.Wo) continue;
    const int64_t pixel = ((j * layer.N + place.image) * layer.Ho + row) * layer.Wo + place.column + i;
    for (int t = 0; t < 2; ++t) data.kept[t][pixel * layer.C + place.channel] = factors[t][i];
  }
}

template <class T, class Source>
__global__ void __launch_bounds__(most_threads, blocks_at_once<T>)
    depthwise_forward(Layer layer, Tiling tiling, ForwardData<T> data) {
  const int64_t tiles = layer.N * tiling.tiles_in_image() * tiling.groups();
  for (int64_t index = blockIdx.x; index < tiles; index += gridDim.x) {
    const Place place = tiling.place(index / tiling.groups(), index % tiling.groups());
    const Source source = Source::open(Image<T>(data.x, place, layer.C, layer.H, layer.W),
                                       layer.inputs(place.row, place.column, tiling.tile_rows), 0);
    const int row = place.row + warp_index();
    if (row >= layer.Ho) continue;
    T product[run_pixels] = {}, value[1][run_pixels] = {};
    for (int64_t j = 0; j < layer.rank; ++j) add_product(layer, data, place, source, row, j, product);
    if (layer.linear) {
      const T* weight[1] = {data.weight + place.channel};
      add_taps(source, output_taps(layer.linear, row, place.column), weight, layer.linear.S, layer.C, value);
    }
    // The linear part is complete before the product is added, so a product of zero leaves it as it is.
    const T shift = data.bias ? data.bias[place.channel] : T(0), scale = static_cast<T>(layer.scale);
    T* y = data.y + ((place.image * layer.Ho + row) * layer.Wo + place.column) * layer.C + place.channel;
#pragma unroll
    for (int i = 0; i < run_pixels; ++i)
      if (!place.idle && place.column + i < layer.Wo) y[i * layer.C] = std::fma(scale, product[i], value[0][i] + shift);
  }
}

}  // namespace

template <class T>
void device_forward(const Problem& problem, const ForwardArgs& args) {
  const Layer layer(problem);
  const ForwardData<T> data{data_of<T>(args.inputs, input_x),
                            data_of<T>(args.inputs, input_weight),
                            data_of<T>(args.inputs, input_bias),
                            data_of<T>(args.inputs, input_a),
                            data_of<T>(args.inputs, input_b),
                            data_of<T>(args.outputs, 0),
                            {data_of<T>(args.auxiliary, 0), data_of<T>(args.auxiliary, 1)}};
  Tiling tiling{layer.C, layer.Ho, layer.Wo};
  size_t shared = 0;
  const bool fits = tiling.fit([&] {
    const auto window = [&](int row, int column, int rows) { return layer.inputs(row, column, rows); };
    return shared = static_cast<size_t>(tiling.largest(window)) * warp_size * sizeof(T);
  });
  const dim3 blocks = blocks_for(layer.N * tiling.tiles_in_image() * tiling.groups(), 1);
  const int threads = tiling.tile_rows * warp_size;
  if (fits)
    launch(depthwise_forward<T, SharedTile<T>>, blocks, threads, shared, args.stream, layer, tiling, data);
  else
    launch(depthwise_forward<T, Image<T>>, blocks, threads, 0, args.stream, layer, tiling, data);
}
template void device_forward<float>(const Problem&, const ForwardArgs&);
template void device_forward<double>(const Problem&, const ForwardArgs&);

}  // namespace parabola::depthwise
