// max_pool2d on CUDA: a thread to a channel of a pixel. The rules are in max_pool2d.h.
#include "engine/ops/pooling/max_pool2d.h"

#include <limits>

#include "engine/ops/maximum.h"
#include "engine/ops/pixels.cuh"

namespace parabola::max_pool2d_cuda {
namespace {

template <class T>
__global__ void max_pool2d_forward(PoolGeometry g, PixelFinder outputs, const T* x, T* y, uint8_t* taps) {
  const int64_t c = thread_index();
  if (c >= g.C) return;
  for (int64_t pixel = thread_row(); pixel < g.output_pixels(); pixel += row_count()) {
    const auto [image, i, j] = outputs.at(pixel);
    const PixelRange rows = g.rows.inputs(i), columns = g.columns.inputs(j);
    T largest = -std::numeric_limits<T>::infinity();
    int64_t where = tap_of(g, i, j, rows.begin, columns.begin);
    for (int64_t row = rows.begin; row < rows.end; ++row)
      for (int64_t column = columns.begin; column < columns.end; ++column) {
        const T value = x[g.input(image, row, column) * g.C + c];
        if (!exceeds(value, largest)) continue;
        largest = value;
        where = tap_of(g, i, j, row, column);
      }
    y[pixel * g.C + c] = largest;
    taps[pixel * g.C + c] = static_cast<uint8_t>(where);
  }
}

template <class T>
__global__ void max_pool2d_backward(PoolGeometry g, PixelFinder inputs, const uint8_t* taps, const T* dy, T* dx,
                                    bool accumulate) {
  const int64_t c = thread_index();
  if (c >= g.C) return;
  for (int64_t pixel = thread_row(); pixel < g.input_pixels(); pixel += row_count()) {
    const auto [image, row, column] = inputs.at(pixel);
    const PixelRange rows = g.rows.outputs_of(row), columns = g.columns.outputs_of(column);
    T d = accumulate ? dx[pixel * g.C + c] : 0;
    for (int64_t i = rows.begin; i < rows.end; ++i)
      for (int64_t j = columns.begin; j < columns.end; ++j) {
        const int64_t from = g.output(image, i, j) * g.C + c;
        if (taps[from] == tap_of(g, i, j, row, column)) d += dy[from];
      }
    dx[pixel * g.C + c] = d;
  }
}

void forward(const ForwardArgs& args) {
  dispatch_float(args.inputs[0].dtype, "max_pool2d", [&]<class T>() {
    const PoolGeometry g = pool_geometry("max_pool2d", args.inputs[0].shape, args.attributes.get<PoolAttributes>());
    launch_on_columns(max_pool2d_forward<T>, args.stream, g.output_pixels(), g.C, g,
                      PixelFinder(g.rows.outputs, g.columns.outputs), args.inputs[0].data<T>(),
                      args.outputs[0].data<T>(), args.auxiliary[0].data<uint8_t>());
  });
}

void backward(const BackwardArgs& args) {
  dispatch_float(args.output_gradients[0].dtype, "max_pool2d", [&]<class T>() {
    const PoolGeometry g = pool_geometry("max_pool2d", args.inputs[0].shape, args.attributes.get<PoolAttributes>());
    launch_on_columns(max_pool2d_backward<T>, args.stream, g.input_pixels(), g.C, g,
                      PixelFinder(g.rows.size, g.columns.size), args.auxiliary[0].data<uint8_t>(),
                      args.output_gradients[0].data<T>(), args.input_gradients[0].data<T>(), args.accumulates(0));
  });
}

const CudaKernels registered(max_pool2d_op, {.kernels = {forward, backward}});

}  // namespace
}  // namespace parabola::max_pool2d_cuda
