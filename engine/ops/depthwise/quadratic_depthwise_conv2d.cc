#include "engine/ops/depthwise/quadratic_depthwise_conv2d.h"

#include "engine/ops/depthwise/rules.h"

namespace parabola {
namespace {

using namespace depthwise;
constexpr std::string_view name = "quadratic_depthwise_conv2d";

}  // namespace

// An absent input's shape has rank 0.
template <class Input>
Problem depthwise::quadratic_problem(const Attributes& attributes, std::span<const Input> inputs) {
  const auto& [stride, padding, dilation, quadratic_stride, quadratic_padding, quadratic_dilation, scale] =
      attributes.get<QuadraticDepthwiseAttributes>();
  const Shape &x = inputs[input_x].shape, &weight = inputs[input_weight].shape;
  const Shape &a = inputs[input_a].shape, &b = inputs[input_b].shape;
  if (a.rank() != 4 || a != b) fail<ShapeError>(name, "a, b: got ", a, " and ", b, ", expected both [J, R, S, C]");
  Problem problem{.rank = a[0], .scale = scale};
  problem.quadratic = kernel_geometry(name, x, "a, b", a, {quadratic_stride, quadratic_padding, quadratic_dilation});
  if (weight.rank() == 0) return problem;
  if (weight.rank() != 3) fail<ShapeError>(name, "weight: got ", weight, ", expected [R, S, C]");
  problem.linear = kernel_geometry(name, x, "weight", weight, {stride, padding, dilation});
  if (problem.linear->output_shape() != problem.quadratic->output_shape())
    fail<ShapeError>(name, "outputs: got ", problem.linear->output_shape(), " by weight and ",
                     problem.quadratic->output_shape(), " by a and b, expected the same");
  return problem;
}
template Problem depthwise::quadratic_problem(const Attributes&, std::span<const TensorSpec>);
template Problem depthwise::quadratic_problem(const Attributes&, std::span<const TensorView>);

const OpDef quadratic_depthwise_conv2d_op = {
    .name = name,
    .layout = [](const Signature& s) { return layout(name, s, quadratic_problem(s.attributes, s.inputs)); },
    .cost = [](const Signature& s) { return cost(s, quadratic_problem(s.attributes, s.inputs)); },
    .needs = needs,
    .variants = 2,
    .cpu = {[](const ForwardArgs& args) {
              dispatch_float(args.inputs[0].dtype, name,
                             [&]<class T>() { forward<T>(quadratic_problem(args.attributes, args.inputs), args); });
            },
            [](const BackwardArgs& args) {
              dispatch_float(args.inputs[0].dtype, name,
                             [&]<class T>() { backward<T>(quadratic_problem(args.attributes, args.inputs), args); });
            }},
};

Tensor quadratic_depthwise_conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& a,
                                  const Tensor& b, const QuadraticDepthwiseAttributes& attributes) {
  return apply(quadratic_depthwise_conv2d_op, {x, weight, bias, a, b}, attributes);
}

}  // namespace parabola
