#include "engine/ops/depthwise/quadratic_depthwise_conv2d.h"

#include "engine/ops/depthwise/rules.h"

namespace parabola {
namespace {

using namespace depthwise;
constexpr std::string_view name = "quadratic_depthwise_conv2d";

// Inputs are specs or views: x, weight, bias, a, b. An absent one has rank 0.
template <class Inputs>
Problem problem_of(const Attributes& attributes, const Inputs& inputs) {
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

}  // namespace

const OpDef quadratic_depthwise_conv2d_op = {
    .name = name,
    .layout = [](const Signature& s) { return layout(name, s, problem_of(s.attributes, s.inputs)); },
    .cost = [](const Signature& s) { return cost(s, problem_of(s.attributes, s.inputs)); },
    .needs = needs,
    .variants = 2,
    .cpu = {[](const ForwardArgs& args) {
              dispatch_float(args.inputs[0].dtype, name,
                             [&]<class T>() { forward<T>(problem_of(args.attributes, args.inputs), args); });
            },
            [](const BackwardArgs& args) {
              dispatch_float(args.inputs[0].dtype, name,
                             [&]<class T>() { backward<T>(problem_of(args.attributes, args.inputs), args); });
            }},
};

Tensor quadratic_depthwise_conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& a,
                                  const Tensor& b, const QuadraticDepthwiseAttributes& attributes) {
  return apply(quadratic_depthwise_conv2d_op, {x, weight, bias, a, b}, attributes);
}

}  // namespace parabola
