#include "engine/ops/quadratic_linear.h"

#include "engine/ops/checks.h"
#include "engine/ops/quadratic_linear_kernels.h"

namespace parabola {
namespace {

using namespace quadratic_linear_kernels;
constexpr std::string_view name = "quadratic_linear";

Layout layout(const Signature& s) {
  const Shape &x = s.shape(input_x), &a = s.shape(input_a);
  if (x.rank() < 1) fail<ShapeError>(name, "input: got a scalar, expected [..., C]");
  if (a.rank() != 3 || a[2] != x.back() || a[0] < 1)
    fail<ShapeError>(name, "a: got ", a, " for an input of shape ", x, ", expected [J, K, ", x.back(),
                     "] with J at least 1");
  const Problem p(x, a);
  require_shape(name, s, input_b, "b", a);
  require_shape(name, s, input_weight, "weight", {p.K, p.C});
  require_shape(name, s, input_bias, "bias", {p.K});
  require_one_dtype(name, s);
  Layout layout{.outputs = {{x.with(-1, p.K), s.dtype()}}};
  if (s.variant == 1) layout.auxiliary.assign(2, {Shape{p.rows, p.J * p.K}, s.dtype()});
  layout.forward_workspace = forward_workspace(p, s.dtype(), s.variant);
  layout.backward_workspace = backward_workspace(p, s.dtype(), s.gradient_mask);
  return layout;
}

StepCost cost(const Signature& s) {
  const Problem p(s.shape(input_x), s.shape(input_a));
  const auto bytes = [&](int i) {
    return s.has(i) ? static_cast<double>(s.inputs[static_cast<size_t>(i)].bytes()) : 0.0;
  };
  const double rows = static_cast<double>(p.rows), outputs = rows * static_cast<double>(p.K),
               J = static_cast<double>(p.J);
  const double map = 2 * outputs * static_cast<double>(p.C);  // flops of x's way through one matrix [K, C]
  const double linear = s.has(input_weight) ? map : 0, y = outputs * static_cast<double>(size_of(s.dtype()));
  const double x = bytes(input_x), weight = bytes(input_weight), factors = bytes(input_a) + bytes(input_b);
  StepCost cost{.forward = {linear + 2 * J * map + 2 * (J + 1) * outputs, x + weight + factors, y}};
  const bool dx = s.wants_gradient(input_x), da = s.wants_gradient(input_a), db = s.wants_gradient(input_b);
  const double products = static_cast<double>((dx || db ? 1 : 0) + (dx || da ? 1 : 0));  // of which the tile has need
  if (products > 0) {
    cost.backward = {products * J * 2 * outputs, y, 0};
    if (s.variant == 0) cost.backward.flops += products * J * map, cost.backward.bytes_read += x + factors;
    if (s.variant == 1) cost.backward.bytes_read += products * J * y;
  }
  add_backward(cost, s, input_x, {linear + 2 * J * map, weight + factors, x});
  add_backward(cost, s, input_weight, {map, x + y, weight});
  add_backward(cost, s, input_bias, {outputs, y, 0});
  add_backward(cost, s, input_a, {J * map, 0, bytes(input_a)});
  add_backward(cost, s, input_b, {J * map, 0, bytes(input_b)});
  return cost;
}

Needs needs(const Signature& s) {
  const bool dx = s.wants_gradient(input_x), da = s.wants_gradient(input_a), db = s.wants_gradient(input_b);
  const bool kept = s.variant == 1, a_products = dx || db, b_products = dx || da;
  Needs needs;
  const auto need = [&](int i, bool is_needed) { needs.inputs |= uint64_t{is_needed} << i; };
  need(input_x, s.wants_gradient(input_weight) || da || db || (!kept && (a_products || b_products)));
  need(input_weight, dx && s.has(input_weight));
  need(input_a, dx || (!kept && a_products));
  need(input_b, dx || (!kept && b_products));
  if (kept) needs.auxiliary = (a_products ? 1 : 0) | (b_products ? 2 : 0);
  return needs;
}

}  // namespace

const OpDef quadratic_linear_op = {
    .name = name,
    .layout = layout,
    .cost = cost,
    .needs = needs,
    .variants = 2,
    .cpu = {[](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, name, [&]<class T>() { forward<T>(a); }); },
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, name, [&]<class T>() { backward<T>(a); });
            }},
};

Tensor quadratic_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& a, const Tensor& b,
                        double scale) {
  return apply(quadratic_linear_op, {x, weight, bias, a, b}, QuadraticLinearAttributes{scale});
}

}  // namespace parabola
