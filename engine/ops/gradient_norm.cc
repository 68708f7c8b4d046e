#include "engine/ops/gradient_norm.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "engine/core/error.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/checks.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/lanes.h"

namespace parabola {
namespace {

// Blocks of a tensor whose squares are added up on their own.
int64_t blocks_of(const Shape& shape) { return (shape.elements() + elementwise_grain - 1) / elementwise_grain; }

template <class T>
void forward(const ForwardArgs& args) {
  double *const partial = reinterpret_cast<double*>(args.workspace), *next = partial;
  for (const TensorView& gradient : args.inputs) {
    const T* g = gradient.data<T>();
    parallel_for(gradient.shape.elements(), elementwise_grain, [=](int64_t begin, int64_t end) {
      next[begin / elementwise_grain] = lane_sum<double>(end - begin, [=](int64_t i) {
        const double value = g[begin + i];
        return value * value;
      });
    });
    next += blocks_of(gradient.shape);
  }
  double sum = 0;
  for (const double* p = partial; p != next; ++p) sum += *p;
  *args.outputs[0].data<T>() = static_cast<T>(std::sqrt(sum));
}

Layout layout(const Signature& s) {
  require_one_dtype("gradient_norm", s);
  Layout result{.outputs = {{Shape{}, s.dtype()}}};
  for (const TensorSpec& gradient : s.inputs) {
    result.forward_workspace += static_cast<size_t>(blocks_of(gradient.shape)) * sizeof(double);
  }
  return result;
}

}  // namespace

const OpDef gradient_norm_op = {
    .name = "gradient_norm",
    .layout = layout,
    .cost =
        [](const Signature& s) {
          StepCost cost;
          for (const TensorSpec& gradient : s.inputs) {
            cost.forward.flops += 2 * static_cast<double>(gradient.shape.elements());
            cost.forward.bytes_read += static_cast<double>(gradient.bytes());
          }
          return cost;
        },
    .cpu = {[](const ForwardArgs& a) {
      dispatch_float(a.inputs[0].dtype, "gradient_norm", [&]<class T>() { forward<T>(a); });
    }},
};

Tensor gradient_norm(std::span<const Tensor> gradients) {
  std::vector<Tensor> inputs;
  std::ranges::copy_if(gradients, std::back_inserter(inputs), &Tensor::defined);
  if (inputs.empty()) fail<UsageError>("gradient_norm", "got no gradients, expected at least one");
  return apply(gradient_norm_op, std::span<const Tensor>(inputs), {})[0];
}

}  // namespace parabola
