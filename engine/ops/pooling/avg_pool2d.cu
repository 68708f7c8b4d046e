// avg_pool2d and adaptive_avg_pool2d on CUDA: a thread to a channel of a pixel. The rules are in avg_pool2d.h.
#include "engine/ops/pooling/avg_pool2d.h"

#include "engine/ops/pixels.cuh"

namespace parabola {
namespace {

template <class Real>
__device__ Real share(const PoolGeometry& g, int64_t i, int64_t j) {
  return 1 / static_cast<Real>(g.rows.divisor(i) * g.columns.divisor(j));
}

template <class T>
__global__ void avg_pool2d_forward(PoolGeometry g, PixelFinder outputs, const T* x, T* y) {
  const int64_t c = thread_index();
  if (c >= g.C) return;
  for (int64_t pixel = thread_row(); pixel < g.output_pixels(); pixel += row_count()) {
    const auto [image, i, j] = outputs.at(pixel);
    const PixelRange rows = g.rows.inputs(i), columns = g.columns.inputs(j);
    Compute<T> sum = 0;
    for (int64_t row = rows.begin; row < rows.end; ++row)
      for (int64_t column = columns.begin; column < columns.end; ++column)
        sum += Compute<T>(x[g.input(image, row, column) * g.C + c]);
    y[pixel * g.C + c] = T(sum * share<Compute<T>>(g, i, j));
  }
}

template <class T>
__global__ void avg_pool2d_backward(PoolGeometry g, PixelFinder inputs, const T* dy, T* dx, bool accumulate) {
  const int64_t c = thread_index();
  if (c >= g.C) return;
  for (int64_t pixel = thread_row(); pixel < g.input_pixels(); pixel += row_count()) {
    const auto [image, row, column] = inputs.at(pixel);
    const PixelRange rows = g.rows.outputs_of(row), columns = g.columns.outputs_of(column);
    Compute<T> d = accumulate ? Compute<T>(dx[pixel * g.C + c]) : 0;
    for (int64_t i = rows.begin; i < rows.end; ++i)
      for (int64_t j = columns.begin; j < columns.end; ++j)
        d += share<Compute<T>>(g, i, j) * Compute<T>(dy[g.output(image, i, j) * g.C + c]);
    dx[pixel * g.C + c] = T(d);
  }
}

template <class Own>
void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "avg_pool2d", [&]<class T>() {
    const PoolGeometry g = pool_geometry("avg_pool2d", args.inputs[0].shape, args.attributes.get<Own>());
    launch_on_columns(avg_pool2d_forward<T>, args.stream, g.output_pixels(), g.C, g,
                      PixelFinder(g.rows.outputs, g.columns.outputs), args.inputs[0].data<T>(),
                      args.outputs[0].data<T>());
  });
}

template <class Own>
void backward(const BackwardArgs& args) {
  dispatch_any_float(args.output_gradients[0].dtype, "avg_pool2d", [&]<class T>() {
    const PoolGeometry g = pool_geometry("avg_pool2d", args.inputs[0].shape, args.attributes.get<Own>());
    launch_on_columns(avg_pool2d_backward<T>, args.stream, g.input_pixels(), g.C, g,
                      PixelFinder(g.rows.size, g.columns.size), args.output_gradients[0].data<T>(),
                      args.input_gradients[0].data<T>(), args.accumulates(0));
  });
}

template <class Own>
constexpr CudaKernels::Entry entry{.kernels = {forward<Own>, backward<Own>}, .half_types = true};

const CudaKernels average(avg_pool2d_op, entry<PoolAttributes>);
const CudaKernels adaptive(adaptive_avg_pool2d_op, entry<AdaptivePoolAttributes>);

}  // namespace
}  // namespace parabola
