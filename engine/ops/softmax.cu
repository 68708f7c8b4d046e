// softmax on CUDA: a warp to a row. The formulas are in softmax.h.
#include "engine/ops/softmax.h"

#include <cmath>

#include "engine/ops/rows.cuh"

namespace parabola {
namespace {

template <class T>
__global__ void softmax_forward(const T* x, T* y, int64_t rows, int64_t columns) {
  using Real = Compute<T>;
  for (int64_t row = first_row(); row < rows; row += row_step()) {
    const T* in = x + row * columns;
    Real largest = in[0];
    for (int64_t c = lane_index(); c < columns; c += warp_size) largest = std::max<Real>(largest, in[c]);
    largest = warp_reduce(largest, Max());
    const Real scale = 1 / row_sum<Real>(columns, [=](int64_t c) { return std::exp(in[c] - largest); });
    for (int64_t c = lane_index(); c < columns; c += warp_size)
      y[row * columns + c] = T(scale * std::exp(in[c] - largest));
  }
}

template <class T>
__global__ void softmax_backward(const T* y, const T* dy, T* dx, bool accumulate, int64_t rows, int64_t columns) {
  using Real = Compute<T>;
  for (int64_t row = first_row(); row < rows; row += row_step()) {
    const T *p = y + row * columns, *g = dy + row * columns;
    T* out = dx + row * columns;
    const Real dot = row_sum<Real>(columns, [=](int64_t c) { return Real(p[c]) * Real(g[c]); });
    for (int64_t c = lane_index(); c < columns; c += warp_size) {
      const Real d = p[c] * (g[c] - dot);
      out[c] = T(accumulate ? out[c] + d : d);
    }
  }
}

void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "softmax", [&]<class T>() {
    const int64_t columns = args.inputs[0].shape.back(), rows = args.inputs[0].shape.elements() / columns;
    launch(softmax_forward<T>, blocks_for_rows(rows), block_size, 0, args.stream, args.inputs[0].data<T>(),
           args.outputs[0].data<T>(), rows, columns);
  });
}

void backward(const BackwardArgs& args) {
  dispatch_any_float(args.outputs[0].dtype, "softmax", [&]<class T>() {
    const int64_t columns = args.outputs[0].shape.back(), rows = args.outputs[0].shape.elements() / columns;
    launch(softmax_backward<T>, blocks_for_rows(rows), block_size, 0, args.stream, args.outputs[0].data<T>(),
           args.output_gradients[0].data<T>(), args.input_gradients[0].data<T>(), args.accumulates(0), rows, columns);
  });
}

const CudaKernels registered(softmax_op, {.kernels = {forward, backward}, .half_types = true});

}  // namespace
}  // namespace parabola
