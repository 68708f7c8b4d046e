#include "engine/ops/softmax.h"

#include <algorithm>

#include "engine/core/error.h"
#include "engine/ops/column_stats.h"
#include "engine/ops/lanes.h"
#include "engine/ops/vector_math.h"

namespace parabola {
namespace {

template <bool is_log>
constexpr const char* name = is_log ? "log_softmax" : "softmax";

template <bool is_log, class T>
void forward_row(const T* x, T* y, int64_t columns) {
  const T largest = *std::max_element(x, x + columns);
  for (int64_t k = 0; k < columns; ++k) y[k] = vector_exp(x[k] - largest);
  const T sum = lane_sum<T>(columns, [=](int64_t k) { return y[k]; });
  if constexpr (is_log) {
    const T log_sum = std::log(sum);
    for (int64_t k = 0; k < columns; ++k) y[k] = x[k] - largest - log_sum;
  } else {
    const T scale = 1 / sum;
    for (int64_t k = 0; k < columns; ++k) y[k] *= scale;
  }
}

template <bool is_log, class T>
void backward_row(const T* y, const T* dy, T* dx, bool accumulate, int64_t columns) {
  const T sum = lane_sum<T>(columns, [=](int64_t k) { return is_log ? dy[k] : dy[k] * y[k]; });
  store_or_add(dx, accumulate, 0, columns,
               [=](int64_t k) { return is_log ? dy[k] - vector_exp(y[k]) * sum : y[k] * (dy[k] - sum); });
}

template <bool is_log, class T>
void forward(const ForwardArgs& args) {
  const int64_t columns = args.inputs[0].shape.back(), rows = args.inputs[0].shape.elements() / columns;
  const T* x = args.inputs[0].data<T>();
  T* y = args.outputs[0].data<T>();
  parallel_for(rows, row_grain(columns), [=](int64_t first, int64_t last) {
    for (int64_t i = first * columns; i < last * columns; i += columns) forward_row<is_log>(x + i, y + i, columns);
  });
}

template <bool is_log, class T>
void backward(const BackwardArgs& args) {
  const int64_t columns = args.outputs[0].shape.back(), rows = args.outputs[0].shape.elements() / columns;
  const T *y = args.outputs[0].data<T>(), *dy = args.output_gradients[0].data<T>();
  T* dx = args.input_gradients[0].data<T>();
  const bool accumulate = args.accumulates(0);
  parallel_for(rows, row_grain(columns), [=](int64_t first, int64_t last) {
    for (int64_t i = first * columns; i < last * columns; i += columns)
      backward_row<is_log>(y + i, dy + i, dx + i, accumulate, columns);
  });
}

template <bool is_log>
Layout layout(const Signature& s) {
  if (s.shape(0).rank() < 1 || s.shape(0).back() < 1) {
    fail<ShapeError>(name<is_log>, "got x of shape ", s.shape(0), ", expected a last axis");
  }
  return same_as_input(s);
}

template <bool is_log>
constexpr OpDef define() {
  return {
      .name = name<is_log>,
      .layout = layout<is_log>,
      // The maximum 1, exp 14, its argument, the sum and the scale 3; backward 2 for the dot product, 2 for dx, and exp
      // once more for the logarithm.
      .cost = [](const Signature& s) { return elementwise_cost(s, 18, is_log ? 17 : 4); },
      .needs = [](const Signature&) { return Needs{.outputs = 1}; },
      .policy = Policy::recompute,
      .cpu = {[](const ForwardArgs& a) {
                dispatch_float(a.inputs[0].dtype, name<is_log>, [&]<class T>() { forward<is_log, T>(a); });
              },
              [](const BackwardArgs& a) {
                dispatch_float(a.outputs[0].dtype, name<is_log>, [&]<class T>() { backward<is_log, T>(a); });
              }},
  };
}

}  // namespace

const OpDef softmax_op = define<false>(), log_softmax_op = define<true>();

Tensor softmax(const Tensor& x) { return apply(softmax_op, {x}); }
Tensor log_softmax(const Tensor& x) { return apply(log_softmax_op, {x}); }

}  // namespace parabola
