#include "engine/ops/quadratic_conv2d/quadratic_conv2d.h"

namespace parabola {
namespace {

using namespace factors;
constexpr std::string_view name = "quadratic_conv2d";

// A row of q.
Extra extra_of(const Problem& p) { return {.worker = p.outputs}; }

template <class T>
class ProductTerm final : public Term<T> {
 public:
  ProductTerm(const Problem& p, const Attributes& attributes)
      : p_(p), scale_(static_cast<T>(attributes.get<QuadraticConvAttributes>().scale)) {}

  void add(const Tile<T>& tile) const override {
    for (int64_t group = 0; group < p_.stacked.groups; ++group)
      add_quadratic_term(tile.pixels(), width(), p_.tile(tile.products, group), scale_, tile.y + group * width(),
                         p_.outputs, tile.worker);
  }

  void gradients(const Tile<T>& tile) const override {
    for (int64_t group = 0; group < p_.stacked.groups; ++group)
      factor_gradients(tile.pixels(), width(), p_.tile(tile.products, group), scale_, tile.y + group * width(),
                       p_.outputs, p_.tile(tile.gradients, group));
  }

 private:
  int64_t width() const { return p_.K / p_.stacked.groups; }
  const Problem& p_;
  T scale_;
};

Layout layout(const Signature& s) {
  const Shape& a = s.shape(input_a);
  if (a.rank() != 5 || a[0] < 1)
    fail<ShapeError>(name, "a: got ", a, ", expected [J, K, R, S, C / groups] with J at least 1");
  const Problem p = product_problem(s);
  require_shape(name, s, input_b, "b", a);
  require_shape(name, s, input_bias, "bias", {p.outputs});
  require_one_dtype(name, s);
  Layout layout{.outputs = {{Shape{p.stacked.N, p.stacked.Ho, p.stacked.Wo, p.outputs}, s.dtype()}},
                .forward_workspace = forward_workspace(p, s.dtype(), s.variant, extra_of(p)),
                .backward_workspace = backward_workspace(p, s.dtype(), s.gradient_mask, extra_of(p))};
  if (s.variant == 1) layout.auxiliary = {{p.stacked.output_shape(), s.dtype()}};
  return layout;
}

StepCost cost(const Signature& s) {
  const Problem p = product_problem(s);
  StepCost cost = common_cost(p, s);
  const double outputs = static_cast<double>(p.stacked.pixels() * p.outputs), J = static_cast<double>(p.J);
  cost.forward.flops += 2 * (J + 1) * outputs;
  if (s.wants_gradient(input_x) || s.gradient_mask >> input_a) cost.backward.flops += 4 * J * outputs;
  return cost;
}

}  // namespace

const OpDef quadratic_conv2d_op = {
    .name = name,
    .layout = layout,
    .cost = cost,
    .needs = common_needs,
    .variants = 2,
    .cpu = {[](const ForwardArgs& args) {
              dispatch_float(args.inputs[0].dtype, name, [&]<class T>() {
                const Problem p = product_problem(args);
                factors::forward<T>(p, args, extra_of(p), ProductTerm<T>(p, args.attributes));
              });
            },
            [](const BackwardArgs& args) {
              dispatch_float(args.output_gradients[0].dtype, name, [&]<class T>() {
                const Problem p = product_problem(args);
                factors::backward<T>(p, args, extra_of(p), ProductTerm<T>(p, args.attributes));
              });
            }},
};

Tensor quadratic_conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& a, const Tensor& b,
                        const QuadraticConvAttributes& attributes) {
  return apply(quadratic_conv2d_op, {x, weight, bias, a, b}, attributes);
}

}  // namespace parabola
