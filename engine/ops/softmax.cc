#include "engine/ops/softmax.h"

#include <algorithm>

#include "engine/core/error.h"
#include "engine/ops/column_stats.h"
#include "engine/ops/lanes.h"
#include "engine/ops/vector_math.h"

namespace parabola {
namespace {

template <class T>
void forward(const ForwardArgs& args) {
  const int64_t columns = args.inputs[0].shape.back(), rows = args.inputs[0].shape.elements() / columns;
  const T* x = args.inputs[0].data<T>();
  T* y = args.outputs[0].data<T>();
  parallel_for(rows, row_grain(columns), [=](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T *in = x + row * columns, largest = *std::max_element(in, in + columns);
      T* out = y + row * columns;
      for (int64_t k = 0; k < columns; ++k) out[k] = vector_exp(in[k] - largest);
      const T scale = 1 / lane_sum<T>(columns, [=](int64_t k) { return out[k]; });
      for (int64_t k = 0; k < columns; ++k) out[k] *= scale;
    }
  });
}

template <class T>
void backward(const BackwardArgs& args) {
  const int64_t columns = args.outputs[0].shape.back(), rows = args.outputs[0].shape.elements() / columns;
  const T *y = args.outputs[0].data<T>(), *dy = args.output_gradients[0].data<T>();
  T* dx = args.input_gradients[0].data<T>();
  const bool accumulate = args.accumulates(0);
  parallel_for(rows, row_grain(columns), [=](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T *p = y + row * columns, *g = dy + row * columns;
      T* out = dx + row * columns;
      const T dot = lane_sum<T>(columns, [=](int64_t k) { return g[k] * p[k]; });
      for (int64_t k = 0; k < columns; ++k) {
        const T d = p[k] * (g[k] - dot);
        out[k] = accumulate ? out[k] + d : d;
      }
    }
  });
}

Layout layout(const Signature& s) {
  if (s.shape(0).rank() < 1 || s.shape(0).back() < 1) {
    fail<ShapeError>("softmax", "got x of shape ", s.shape(0), ", expected a last axis");
  }
  return same_as_input(s);
}

}  // namespace

const OpDef softmax_op = {
    .name = "softmax",
    .layout = layout,
    // The maximum 1, exp 14, its argument, the sum and the scale 3; backward 2 for the dot product, 2 for dx.
    .cost = [](const Signature& s) { return elementwise_cost(s, 18, 4); },
    .needs = [](const Signature&) { return Needs{.outputs = 1}; },
    .policy = Policy::recompute,
    .cpu = {[](const ForwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "softmax", [&]<class T>() { forward<T>(a); });
            },
            [](const BackwardArgs& a) {
              dispatch_float(a.outputs[0].dtype, "softmax", [&]<class T>() { backward<T>(a); });
            }},
};

Tensor softmax(const Tensor& x) { return apply(softmax_op, {x}); }

}  // namespace parabola
