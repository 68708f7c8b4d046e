#include "engine/ops/mlp.h"

#include "engine/ops/checks.h"
#include "engine/ops/mlp_kernels.h"
#include "engine/ops/normal_distribution.h"

namespace parabola {
namespace {

using namespace mlp_kernels;
constexpr std::string_view name = "mlp";

void check(const Signature& s) {
  const Shape& x = s.shape(input_x);
  if (x.rank() < 1) fail<ShapeError>(name, "input: got a scalar, expected [..., C]");
  if (const Shape& w = s.shape(input_weight1); w.rank() != 2 || w[1] != x.back() || w[0] < 1)
    fail<ShapeError>(name, "weight1: got ", w, " for an input of shape ", x, ", expected [H, ", x.back(),
                     "] with H at least 1");
  const int64_t H = s.shape(input_weight1)[0];
  if (const Shape& w = s.shape(input_weight2); w.rank() != 2 || w[1] != H)
    fail<ShapeError>(name, "weight2: got ", w, " for ", H, " hidden values, expected [K, ", H, "]");
  require_shape(name, s, input_bias1, "bias1", {H});
  const int64_t K = s.shape(input_weight2)[0];
  require_shape(name, s, input_bias2, "bias2", {K});
  require_shape(name, s, input_scale, "scale", {K});
  require_shape(name, s, input_residual, "residual", x.with(-1, K));
  require_one_dtype(name, s);
}

Layout layout(const Signature& s) {
  check(s);
  const Sizes n(s);
  Layout layout{.outputs = {{s.shape(input_x).with(-1, n.K), s.dtype()}}};
  if (s.variant == 1) layout.auxiliary = {{{n.rows, n.H}, s.dtype()}};
  layout.forward_workspace = forward_workspace(n, s.dtype());
  layout.backward_workspace = backward_workspace(n, s.dtype(), s.variant, wanted_of(s), s.has(input_scale));
  return layout;
}

StepCost cost(const Signature& s) {
  const Sizes n(s);
  const Wanted wanted = wanted_of(s);
  const auto product = [](int64_t a, int64_t b) { return static_cast<double>(a) * static_cast<double>(b); };
  const double element = static_cast<double>(size_of(s.dtype())), hidden = product(n.rows, n.H);
  const double first = 2 * hidden * static_cast<double>(n.C), second = 2 * hidden * static_cast<double>(n.K);
  const double x = product(n.rows, n.C) * element, y = product(n.rows, n.K) * element;
  const double weight1 = product(n.H, n.C) * element, weight2 = product(n.K, n.H) * element;
  const double kept = s.variant == 1 ? hidden * element : 0;
  StepCost cost{.forward = {first + second + gelu_flops * hidden, x + weight1 + weight2, y + kept}};
  if (s.has(input_scale)) cost.forward.flops += y / element;
  if (s.has(input_residual)) cost.forward.flops += y / element, cost.forward.bytes_read += y;
  if (wanted.any() || wanted.bias2) cost.backward.bytes_read = y;  // the residual's gradient lies where dy does
  if (wanted.any()) {
    cost.backward.flops = hidden * (wanted.hidden ? gelu_gradient_flops : gelu_flops);
    cost.backward.bytes_read += kept;
    if (s.variant == 0) cost.backward.flops += first, cost.backward.bytes_read += x + weight1;
    if (wanted.hidden) cost.backward.flops += second, cost.backward.bytes_read += weight2;
    if (wanted.product) cost.backward.flops += second;
  }
  add_backward(cost, s, input_x, {first, s.variant == 0 ? 0 : weight1, x});
  add_backward(cost, s, input_weight1, {first, s.variant == 0 ? 0 : x, weight1});
  add_backward(cost, s, input_bias1, {hidden, 0, 0});
  add_backward(cost, s, input_weight2, {0, 0, weight2});
  add_backward(cost, s, input_scale, {weight2 / element, 0, 0});
  add_backward(cost, s, input_bias2, {product(n.rows, n.K), 0, 0});
  return cost;
}

Needs needs(const Signature& s) {
  const Wanted wanted = wanted_of(s);
  const bool again = wanted.recomputes(s.variant);
  Needs needs;
  const auto need = [&](int i, bool is_needed) { needs.inputs |= uint64_t{is_needed && s.has(i)} << i; };
  need(input_x, again || wanted.weight1);
  need(input_weight1, again || wanted.x);
  need(input_bias1, again);
  need(input_weight2, wanted.hidden || wanted.scale);
  need(input_bias2, wanted.scale);
  need(input_scale, wanted.any() || wanted.bias2);
  needs.auxiliary = uint64_t{s.variant == 1 && wanted.any()};
  return needs;
}

}  // namespace

const OpDef mlp_op = {
    .name = name,
    .layout = layout,
    .cost = cost,
    .needs = needs,
    .variants = 2,
    .usual_variant = 1,  // a product costs more than its bytes
    .gradient_in_place = input_residual,
    .optional = uint64_t{1} << input_bias1 | uint64_t{1} << input_bias2 | uint64_t{1} << input_scale |
                uint64_t{1} << input_residual,
    .cpu = {[](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, name, [&]<class T>() { forward<T>(a); }); },
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, name, [&]<class T>() { backward<T>(a); });
            }},
};

Tensor mlp(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2, const Tensor& bias2,
           const Tensor& scale, const Tensor& residual) {
  return apply(mlp_op, {x, weight1, bias1, weight2, bias2, scale, residual});
}

}  // namespace parabola
