#include "engine/ops/batch_norm.h"

#include "engine/core/error.h"
#include "engine/ops/batch_norm_kernels.h"
#include "engine/ops/checks.h"

namespace parabola {
namespace {

using namespace batch_norm_kernels;

template <bool training>
constexpr const char* name = training ? "batch_norm" : "batch_norm_inference";

template <bool training>
Layout layout(const Signature& s) {
  const Shape& x = s.shape(x_input);
  if (x.rank() < 2) fail<ShapeError>(name<training>, "got x of shape ", x, ", expected at least [N, C]");
  require_one_dtype(name<training>, s);
  constexpr const char* arguments[] = {"x", "gamma", "beta", "running mean", "running variance"};
  for (int i = gamma_input; i <= variance_input; ++i) {
    require_shape(name<training>, s, i, arguments[i], Shape{x.back()});
  }
  require_shape(name<training>, s, residual_input, "residual", x);
  const RowBlocks rows = rows_of(x);
  if (training && rows.rows < 2) {
    fail<ShapeError>(name<training>, "got x of shape ", x, ", expected at least 2 values for each channel");
  }
  Layout result{.outputs = {{x, s.dtype()}}};
  const TensorSpec channel{Shape{x.back()}, s.dtype()};
  if (training) result.auxiliary = {channel, channel};
  dispatch_float(s.dtype(), name<training>, [&]<class T>() {
    const size_t row = static_cast<size_t>(rows.width()) * sizeof(T);
    result.forward_workspace = training ? std::max(3 * row, column_moments_workspace<T>(rows)) : 3 * row;
    result.backward_workspace = 6 * row + column_sums_workspace<T>(rows, 2);
  });
  return result;
}

// Whether backward makes the relu's mask again from x, which it reads anyway, rather than read y.
template <bool training>
bool masks_by_argument(const Signature& s) {
  return training && s.attributes.get<BatchNormOptions>().relu && !s.has(residual_input);
}

template <bool training>
Needs needs(const Signature& s) {
  const bool dx = s.wants_gradient(x_input), dgamma = s.wants_gradient(gamma_input);
  const bool by_argument = masks_by_argument<training>(s);
  const bool reads_x = dgamma || (training && dx) || (by_argument && s.wants_gradient(beta_input));
  Needs result{.inputs = uint64_t{reads_x} << x_input | uint64_t{dx || by_argument} << gamma_input |
                         uint64_t{by_argument} << beta_input,
               .outputs = uint64_t{s.attributes.get<BatchNormOptions>().relu && !by_argument}};
  if (training) {
    result.auxiliary = reads_x ? 3 : 0;
  } else {
    result.inputs |= uint64_t{dgamma} << mean_input | uint64_t{dx || dgamma} << variance_input;
  }
  return result;
}

// Forward, an element: 5 flops for the moments, 3 to normalise, 1 to add the residual, 1 for the relu. Backward: 1 for
// sum dy, 4 for sum dy x_hat, 1 or 5 for dx, 1 for the relu and 3 for its argument.
template <bool training>
StepCost cost(const Signature& s) {
  const bool dx = s.wants_gradient(x_input), dgamma = s.wants_gradient(gamma_input);
  const bool residual = s.has(residual_input), relu = s.attributes.get<BatchNormOptions>().relu;
  const bool by_argument = masks_by_argument<training>(s);
  const double sums = training || dgamma ? 5 : s.wants_gradient(beta_input) ? 1 : 0;
  StepCost cost = elementwise_cost(s, (training ? 8 : 3) + int{residual} + int{relu},
                                   sums + (dx ? (training ? 5 : 1) : 0) + int{relu} + (by_argument ? 3 : 0));
  const double bytes = static_cast<double>(s.inputs[x_input].bytes());
  if (residual) cost.forward.bytes_read += bytes;
  if (relu && !by_argument) cost.backward.bytes_read += bytes;
  if (residual) add_backward(cost, s, residual_input, {0, 0, bytes});
  return cost;
}

template <bool training>
constexpr OpDef define() {
  return {
      .name = name<training>,
      .layout = layout<training>,
      .cost = cost<training>,
      .needs = needs<training>,
      .policy = Policy::recompute,
      .mutates = training ? uint64_t{1} << mean_input | uint64_t{1} << variance_input : 0,
      .gradient_in_place = 0,
      .optional = uint64_t{1} << residual_input,
      .cpu = {[](const ForwardArgs& a) {
                dispatch_float(a.inputs[0].dtype, name<training>,
                               [&]<class T>() { batch_norm_kernels::forward<training, T>(a); });
              },
              [](const BackwardArgs& a) {
                dispatch_float(a.output_gradients[0].dtype, name<training>,
                               [&]<class T>() { batch_norm_kernels::backward<training, T>(a); });
              }},
  };
}

}  // namespace

const OpDef batch_norm_op = define<true>();
const OpDef batch_norm_inference_op = define<false>();

Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                  const Tensor& running_variance, const BatchNormOptions& options, const Tensor& residual) {
  return apply(options.training ? batch_norm_op : batch_norm_inference_op,
               {x, gamma, beta, running_mean, running_variance, residual}, options);
}

}  // namespace parabola
