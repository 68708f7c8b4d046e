#include "engine/ops/quadratic_linear.h"

#include <algorithm>

#include "engine/ops/checks.h"
#include "engine/ops/quadratic_linear_kernels.h"

namespace parabola {
namespace {

using namespace quadratic_linear_kernels;
constexpr std::string_view name = "quadratic_linear";

void check_term(const Signature& s) {
  const Shape& x = s.shape(input_x);
  if (x.rank() < 1) fail<ShapeError>(name, "input: got a scalar, expected [..., C]");
  const auto require_factor = [&](const char* what, const Shape& factor, bool form) {
    if (factor.rank() == 3 && factor[2] == x.back() && (form ? factor[0] == x.back() : factor[0] >= 1)) return;
    const std::string form_rows = concat(x.back());
    fail<ShapeError>(name, what, ": got ", factor, " for an input of shape ", x, ", expected [", form ? form_rows : "J",
                     ", K, ", x.back(), form ? "], as a is absent" : "] with J at least 1");
  };
  if (s.has(input_a)) require_factor("a", s.shape(input_a), false);
  if (s.has(input_a)) return require_shape(name, s, input_b, "b", s.shape(input_a));
  if (s.has(input_b)) return require_factor("b", s.shape(input_b), true);
  if (!s.has(input_square)) fail<UsageError>(name, "term: got neither a, b nor square, expected at least one");
  if (s.shape(input_square).rank() != 2)
    fail<ShapeError>(name, "square: got ", s.shape(input_square), ", expected [K, ", x.back(), "]");
}

Layout layout(const Signature& s) {
  check_term(s);
  const Problem p(s);
  require_shape(name, s, input_square, "square", {p.K, p.C});
  require_shape(name, s, input_weight, "weight", {p.K, p.C});
  require_shape(name, s, input_bias, "bias", {p.K});
  require_one_dtype(name, s);
  Layout layout{.outputs = {{s.shape(input_x).with(-1, p.K), s.dtype()}}};
  if (s.variant == 1 && p.J > 0) layout.auxiliary = {{{p.rows, p.width()}, s.dtype()}};
  layout.forward_workspace = forward_workspace(p, s.dtype(), s.variant);
  layout.backward_workspace = backward_workspace(p, s.dtype(), s.gradient_mask);
  return layout;
}

StepCost cost(const Signature& s) {
  const Problem p(s);
  const Wanted wanted(p, s.gradient_mask);
  const auto bytes = [&](int i) {
    return s.has(i) ? static_cast<double>(s.inputs[static_cast<size_t>(i)].bytes()) : 0.0;
  };
  const double rows = static_cast<double>(p.rows), outputs = rows * static_cast<double>(p.K),
               J = static_cast<double>(p.J), factors = static_cast<double>(p.factors());
  const double map = 2 * outputs * static_cast<double>(p.C);  // flops of x's way through one matrix [K, C]
  const double linear = s.has(input_weight) ? map : 0, square = p.has_square ? map : 0;
  const double squares = p.has_square ? 2 * rows * static_cast<double>(p.C) : 0;  // scale x∘x, or its gradient
  const double x = bytes(input_x), weight = bytes(input_weight) + bytes(input_square);
  const double matrices = bytes(input_a) + bytes(input_b), y = outputs * static_cast<double>(size_of(s.dtype()));
  const double sum = p.J > 0 ? 2 * (J + 1) * outputs : 0;
  StepCost cost{.forward = {linear + square + squares + factors * J * map + sum, x + weight + matrices, y}};
  if (wanted.products) {  // of which the tile has need
    const double products = static_cast<double>(int{wanted.a_products} + int{wanted.b_products});
    cost.backward = {std::max(1.0, products) * J * 2 * outputs, y, 0};
    if (s.variant == 0) cost.backward.flops += products * J * map, cost.backward.bytes_read += x + matrices;
    if (s.variant == 1) cost.backward.bytes_read += products * J * y;
  }
  add_backward(cost, s, input_x, {linear + square + squares + factors * J * map, weight + matrices, x});
  add_backward(cost, s, input_weight, {map, x + y, bytes(input_weight)});
  add_backward(cost, s, input_bias, {outputs, y, 0});
  add_backward(cost, s, input_a, {J * map, 0, bytes(input_a)});
  add_backward(cost, s, input_b, {J * map, 0, bytes(input_b)});
  add_backward(cost, s, input_square, {map + squares, x + y, bytes(input_square)});
  return cost;
}

Needs needs(const Signature& s) {
  const Problem p(s);
  const Wanted w(p, s.gradient_mask);
  const bool kept = s.variant == 1, recomputed = !kept && (w.a_products || w.b_products);
  Needs needs;
  const auto need = [&](int i, bool is_needed) { needs.inputs |= uint64_t{is_needed && s.has(i)} << i; };
  need(input_x, w.weight || w.a || w.b || w.squares || recomputed || (w.x && p.form()));
  need(input_weight, w.x);
  need(input_a, w.x || recomputed);
  need(input_b, w.x || recomputed);
  need(input_square, w.x);
  needs.auxiliary = uint64_t{kept && (w.a_products || w.b_products)};
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

Tensor quadratic_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const QuadraticTerm& term,
                        double scale) {
  return apply(quadratic_linear_op, {x, weight, bias, term.a, term.b, term.square}, QuadraticLinearAttributes{scale});
}

Tensor quadratic_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& a, const Tensor& b,
                        double scale) {
  return quadratic_linear(x, weight, bias, {a, b, {}}, scale);
}

}  // namespace parabola
