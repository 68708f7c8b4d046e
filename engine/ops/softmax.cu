// softmax and log_softmax on CUDA: a warp to a row. The formulas are in softmax.h.
#include "engine/ops/softmax.h"

#include <cmath>

#include "engine/ops/rows.cuh"

namespace parabola::softmax_cuda {
namespace {

template <bool is_log>
constexpr const char* name = is_log ? "log_softmax" : "softmax";

template <bool is_log, class T>
__global__ void softmax_forward(const T* x, T* y, int64_t rows, int64_t columns) {
  using Real = Compute<T>;
  for (int64_t row = first_row(); row < rows; row += row_step()) {
    const T* in = x + row * columns;
    Real largest = in[0];
    for (int64_t c = lane_index(); c < columns; c += warp_size) largest = std::max<Real>(largest, in[c]);
    largest = warp_reduce(largest, Max());
    const Real sum = row_sum<Real>(columns, [=](int64_t c) { return std::exp(in[c] - largest); });
    const Real scale = 1 / sum, log_sum = std::log(sum);
    for (int64_t c = lane_index(); c < columns; c += warp_size) {
      const Real z = in[c] - largest;
      y[row * columns + c] = T(is_log ? z - log_sum : scale * std::exp(z));
    }
  }
}

template <bool is_log, class T>
__global__ void softmax_backward(const T* y, const T* dy, T* dx, bool accumulate, int64_t rows, int64_t columns) {
  using Real = Compute<T>;
  for (int64_t row = first_row(); row < rows; row += row_step()) {
    const T *p = y + row * columns, *g = dy + row * columns;
    T* out = dx + row * columns;
    const Real sum = row_sum<Real>(columns, [=](int64_t c) { return is_log ? Real(g[c]) : Real(p[c]) * Real(g[c]); });
    for (int64_t c = lane_index(); c < columns; c += warp_size) {
      const Real d = is_log ? g[c] - std::exp(Real(p[c])) * sum : p[c] * (g[c] - sum);
      out[c] = T(accumulate ? out[c] + d : d);
    }
  }
}

template <bool is_log>
void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, name<is_log>, [&]<class T>() {
    const int64_t columns = args.inputs[0].shape.back(), rows = args.inputs[0].shape.elements() / columns;
    launch(softmax_forward<is_log, T>, blocks_for_rows(rows), block_size, 0, args.stream, args.inputs[0].data<T>(),
           args.outputs[0].data<T>(), rows, columns);
  });
}

template <bool is_log>
void backward(const BackwardArgs& args) {
  dispatch_any_float(args.outputs[0].dtype, name<is_log>, [&]<class T>() {
    const int64_t columns = args.outputs[0].shape.back(), rows = args.outputs[0].shape.elements() / columns;
    launch(softmax_backward<is_log, T>, blocks_for_rows(rows), block_size, 0, args.stream, args.outputs[0].data<T>(),
           args.output_gradients[0].data<T>(), args.input_gradients[0].data<T>(), args.accumulates(0), rows, columns);
  });
}

const CudaKernels registered(softmax_op, {.kernels = {forward<false>, backward<false>}, .half_types = true}),
    registered_log(log_softmax_op, {.kernels = {forward<true>, backward<true>}, .half_types = true});

}  // namespace
}  // namespace parabola::softmax_cuda
