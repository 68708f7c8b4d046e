#include "engine/ops/depthwise/depthwise_conv2d.h"

#include "engine/ops/depthwise/rules.h"

namespace parabola {
namespace {

using namespace depthwise;
constexpr std::string_view name = "depthwise_conv2d";

}  // namespace

template <class Input>
Problem depthwise::plain_problem(const Attributes& attributes, std::span<const Input> inputs) {
  const Shape &x = inputs[input_x].shape, &weight = inputs[input_weight].shape;
  if (weight.rank() != 3) fail<ShapeError>(name, "weight: got ", weight, ", expected [R, S, C]");
  return {.linear = kernel_geometry(name, x, "weight", weight, attributes.get<DepthwiseAttributes>())};
}
template Problem depthwise::plain_problem(const Attributes&, std::span<const TensorSpec>);
template Problem depthwise::plain_problem(const Attributes&, std::span<const TensorView>);

const OpDef depthwise_conv2d_op = {
    .name = name,
    .layout = [](const Signature& s) { return layout(name, s, plain_problem(s.attributes, s.inputs)); },
    .cost = [](const Signature& s) { return cost(s, plain_problem(s.attributes, s.inputs)); },
    .needs = needs,
    .cpu = {[](const ForwardArgs& args) {
              dispatch_float(args.inputs[0].dtype, name,
                             [&]<class T>() { forward<T>(plain_problem(args.attributes, args.inputs), args); });
            },
            [](const BackwardArgs& args) {
              dispatch_float(args.inputs[0].dtype, name,
                             [&]<class T>() { backward<T>(plain_problem(args.attributes, args.inputs), args); });
            }},
};

Tensor depthwise_conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const DepthwiseAttributes& attributes) {
  return apply(depthwise_conv2d_op, {x, weight, bias}, attributes);
}

}  // namespace parabola
