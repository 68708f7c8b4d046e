#include "engine/ops/depthwise/depthwise_conv2d.h"

#include "engine/ops/depthwise/rules.h"

namespace parabola {
namespace {

using namespace depthwise;
constexpr std::string_view name = "depthwise_conv2d";

// Inputs are specs or views: x, weight, bias.
template <class Inputs>
Problem problem_of(const Attributes& attributes, const Inputs& inputs) {
  const Shape &x = inputs[input_x].shape, &weight = inputs[input_weight].shape;
  if (weight.rank() != 3) fail<ShapeError>(name, "weight: got ", weight, ", expected [R, S, C]");
  return {.linear = kernel_geometry(name, x, "weight", weight, attributes.get<DepthwiseAttributes>())};
}

}  // namespace

const OpDef depthwise_conv2d_op = {
    .name = name,
    .layout = [](const Signature& s) { return layout(name, s, problem_of(s.attributes, s.inputs)); },
    .cost = [](const Signature& s) { return cost(s, problem_of(s.attributes, s.inputs)); },
    .needs = needs,
    .cpu = {[](const ForwardArgs& args) {
              dispatch_float(args.inputs[0].dtype, name,
                             [&]<class T>() { forward<T>(problem_of(args.attributes, args.inputs), args); });
            },
            [](const BackwardArgs& args) {
              dispatch_float(args.inputs[0].dtype, name,
                             [&]<class T>() { backward<T>(problem_of(args.attributes, args.inputs), args); });
            }},
};

Tensor depthwise_conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const DepthwiseAttributes& attributes) {
  return apply(depthwise_conv2d_op, {x, weight, bias}, attributes);
}

}  // namespace parabola
