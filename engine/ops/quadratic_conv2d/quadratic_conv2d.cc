#include "engine/ops/quadratic_conv2d/quadratic_conv2d.h"

#include "engine/ops/quadratic_conv2d/term.h"

namespace parabola {
namespace {

using namespace factors;
constexpr std::string_view name = "quadratic_conv2d";

void check_term(const Signature& s) {
  const auto require_factor = [&](const char* what, const Shape& factor) {
    if (factor.rank() == 5 && factor[0] >= 1) return;
    fail<ShapeError>(name, what, ": got ", factor, ", expected [J, K, R, S, C / groups] with J at least 1");
  };
  if (s.has(input_a)) require_factor("a", s.shape(input_a));
  if (s.has(input_a)) return require_shape(name, s, input_b, "b", s.shape(input_a));
  if (s.has(input_b)) {
    const Shape& b = s.shape(input_b);
    require_factor("b", b);
    if (b[0] != b.product(2, 5))
      fail<ShapeError>(name, "b: got ", b, ", expected ", b.with(0, b.product(2, 5)), ", as a is absent");
    return;
  }
  if (!s.has(input_square)) fail<UsageError>(name, "term: got neither a, b nor square, expected at least one");
  if (s.shape(input_square).rank() != 4)
    fail<ShapeError>(name, "square: got ", s.shape(input_square), ", expected [K, R, S, C / groups]");
}

Layout layout(const Signature& s) {
  check_term(s);
  const Problem p = product_problem(s);
  const Extra extra = term_extra(p, Wanted(p, s.gradient_mask));
  require_shape(name, s, input_square, "square", p.stacked.weight_shape().with(0, p.outputs));
  require_shape(name, s, input_bias, "bias", {p.outputs});
  require_one_dtype(name, s);
  Layout layout{.outputs = {{Shape{p.stacked.N, p.stacked.Ho, p.stacked.Wo, p.outputs}, s.dtype()}},
                .forward_workspace = forward_workspace(p, s.dtype(), s.variant, extra),
                .backward_workspace = backward_workspace(p, s.dtype(), s.gradient_mask, extra)};
  if (s.variant == 1 && p.J > 0) layout.auxiliary = {{p.stacked.output_shape(), s.dtype()}};
  return layout;
}

StepCost cost(const Signature& s) {
  const Problem p = product_problem(s);
  StepCost cost = common_cost(p, s);
  const double outputs = static_cast<double>(p.stacked.pixels() * p.outputs), J = static_cast<double>(p.J);
  if (p.J > 0) cost.forward.flops += 2 * (J + 1) * outputs;
  if (Wanted(p, s.gradient_mask).products)
    cost.backward.flops += 2 * static_cast<double>(p.parts.b ? 2 : 1) * J * outputs;
  if (!p.parts.square) return cost;
  const auto bytes = [&](int i) { return static_cast<double>(s.inputs[static_cast<size_t>(i)].bytes()); };
  const double map = 2 * outputs * static_cast<double>(p.stacked.depth());
  const double squares = 2 * static_cast<double>(s.shape(input_x).elements()),
               y = outputs * static_cast<double>(size_of(s.dtype()));
  cost.forward.flops += map + squares, cost.forward.bytes_read += bytes(input_square);
  add_backward(cost, s, input_x, {map + squares, bytes(input_square), 0});
  add_backward(cost, s, input_square, {map + squares, bytes(input_x) + y, bytes(input_square)});
  return cost;
}

Needs needs(const Signature& s) {
  const Problem p = product_problem(s);
  Needs needs = common_needs(p, s);
  if (s.wants_gradient(input_x) && p.parts.square) needs.inputs |= 1 << input_square;
  return needs;
}

}  // namespace

const OpDef quadratic_conv2d_op = {
    .name = name,
    .layout = layout,
    .cost = cost,
    .needs = needs,
    .variants = 2,
    .cpu = {[](const ForwardArgs& args) {
              dispatch_float(args.inputs[0].dtype, name, [&]<class T>() {
                const Problem p = product_problem(args);
                factors::forward<T>(p, args, term_extra(p, Wanted(p, 0)), ProductTerm<T>(p, args));
              });
            },
            [](const BackwardArgs& args) {
              dispatch_float(args.output_gradients[0].dtype, name, [&]<class T>() {
                const Problem p = product_problem(args);
                factors::backward<T>(p, args, term_extra(p, Wanted(p, args)), ProductTerm<T>(p, args));
              });
            }},
};

Tensor quadratic_conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const QuadraticTerm& term,
                        const QuadraticConvAttributes& attributes) {
  return apply(quadratic_conv2d_op, {x, weight, bias, term.a, term.b, term.square}, attributes);
}

Tensor quadratic_conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& a, const Tensor& b,
                        const QuadraticConvAttributes& attributes) {
  return quadratic_conv2d(x, weight, bias, {a, b, {}}, attributes);
}

}  // namespace parabola
