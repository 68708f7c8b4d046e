#include "engine/ops/quadratic_conv2d/quadratic_conv2d_normed.h"

#include "engine/ops/checks.h"
#include "engine/ops/quadratic_conv2d/normed.h"

namespace parabola {
namespace {

using namespace normed;

// The output norm's call of batch_norm_op: its attributes and what it sees.
struct OutputCall {
  Attributes attributes;
  std::vector<TensorSpec> inputs;
  uint64_t mask;
  OutputCall(const Signature& s, const ConvGeometry& g)
      : attributes(s.attributes.get<NormedConvAttributes>().output),
        inputs{{Shape{g.N, g.Ho, g.Wo, g.K / 3}, s.dtype()}},
        mask(output_mask(s.gradient_mask)) {
    inputs.insert(inputs.end(), s.inputs.begin() + output_input, s.inputs.end());
  }
  Signature signature() const { return {attributes, inputs, mask}; }
};

template <bool training>
Layout layout(const Signature& s) {
  const ConvGeometry g = stacked_geometry(name<training>, s.attributes, s.shape(0), s.shape(1));
  const Shape channel{g.K / 3};
  for (int k = 0; k < 3; ++k) {
    require_shape(name<training>, s, weight_input(k), "weight", s.shape(1));
    for (const int i : {gamma_input(k), beta_input(k), mean_input(k), variance_input(k)})
      require_shape(name<training>, s, i, "a BatchNorm's parameter", channel);
  }
  require_one_dtype(name<training>, s);
  if (s.inputs.size() != output_input && !(training && s.inputs.size() == all_inputs))
    fail<UsageError>(name<training>, "got ", s.inputs.size(), " inputs, expected ", output_input,
                     training ? concat(", or ", all_inputs, " with a norm of the output") : "");
  if (training && g.pixels() < 2)
    fail<ShapeError>(name<training>, "got x of shape ", s.shape(0), ", expected at least 2 output pixels");
  Layout result{.outputs = {{Shape{g.N, g.Ho, g.Wo, g.K / 3}, s.dtype()}}};
  if (training) result.auxiliary = {{Shape{g.K}, s.dtype()}, {Shape{g.K}, s.dtype()}};
  if (s.variant == 1) result.auxiliary.push_back({Shape{g.N, g.Ho, g.Wo, g.K}, s.dtype()});
  const bool norms_y = training && norms_output(s.inputs);
  if (norms_y) {
    const OutputCall call(s, g);
    for (const TensorSpec& spec : batch_norm_op.layout(call.signature()).auxiliary) result.auxiliary.push_back(spec);
  }
  dispatch_float(s.dtype(), name<training>, [&]<class T>() {
    Scratch forward, backward;
    Buffers<T>(forward, g, s.variant == 0, false, norms_y);
    Buffers<T>(backward, g, s.variant == 0, true, norms_y);
    result.forward_workspace = forward.bytes();
    result.backward_workspace = backward.bytes();
  });
  return result;
}

template <bool training>
Needs needs(const Signature& s) {
  const bool weights = (s.gradient_mask & bits(1, 4)) != 0, again = s.variant == 0;
  Needs result{.inputs = bits(4, 10) | (training ? 0 : bits(10, 16))};  // a and b always
  if (weights || again) result.inputs |= 1;
  if (s.wants_gradient(0) || again) result.inputs |= bits(1, 4);
  result.auxiliary = (training ? 3 : 0) | (again ? 0 : training ? 4 : 1);
  if (training && norms_output(s.inputs)) {
    const OutputCall call(s, stacked_geometry(name<training>, s.attributes, s.shape(0), s.shape(1)));
    const Needs norm = batch_norm_op.needs(call.signature());
    result.inputs |= (norm.inputs >> 1) << output_input;
    result.outputs = norm.outputs;
    result.auxiliary |= uint64_t{3} << (again ? 2 : 3);
  }
  return result;
}

template <bool training>
StepCost cost(const Signature& s) {
  const ConvGeometry g = stacked_geometry(name<training>, s.attributes, s.shape(0), s.shape(1));
  const double z = static_cast<double>(g.pixels() * g.K), element = static_cast<double>(size_of(s.dtype()));
  const double x = static_cast<double>(s.inputs[0].bytes());
  // An element of z: 5 flops for the moments, 3 to normalise, 2 for product and sum; 12 in the two passes of backward.
  StepCost cost{.forward = {g.flops() + 10 * z, x, z / 3 * element}, .backward = {12 * z, z * element, 0}};
  if (s.variant == 0) cost.backward.flops += g.flops(), cost.backward.bytes_read += x;
  add_backward(cost, s, 0, {g.flops(), z * element, x});
  if (s.gradient_mask & bits(1, 4)) cost.backward.flops += g.flops(), cost.backward.bytes_read += x + z * element;
  if (training && norms_output(s.inputs)) {  // which reads the product twice from where it was just written
    const StepCost norm = batch_norm_op.cost(OutputCall(s, g).signature());
    cost.forward.flops += norm.forward.flops;
    if (s.has(residual_input)) cost.forward.bytes_read += z / 3 * element;
    cost.backward.flops += norm.backward.flops + 11.0 / 3 * z;  // and makes it again: 9 flops for the branches, 2
    cost.backward.bytes_read += z * element;
    cost.backward.bytes_written += s.wants_gradient(residual_input) ? z / 3 * element : 0;
  }
  return cost;
}

template <bool training>
constexpr OpDef define() {
  return {
      .name = name<training>,
      .layout = layout<training>,
      .cost = cost<training>,
      .needs = needs<training>,
      .variants = 2,
      .mutates = training ? bits(10, 16) | bits(output_input + 2, residual_input) : 0,
      .gradient_in_place = 0,
      .optional = uint64_t{1} << residual_input,
      .cpu = {[](const ForwardArgs& a) {
                dispatch_float(a.inputs[0].dtype, name<training>, [&]<class T>() { normed::forward<training, T>(a); });
              },
              [](const BackwardArgs& a) {
                dispatch_float(a.output_gradients[0].dtype, name<training>,
                               [&]<class T>() { normed::backward<training, T>(a); });
              }},
  };
}

}  // namespace

const OpDef quadratic_conv2d_normed_op = define<true>();
const OpDef quadratic_conv2d_normed_inference_op = define<false>();

Tensor quadratic_conv2d_normed(const Tensor& x, const std::array<NormedBranch, 3>& branches,
                               const NormedConvAttributes& attributes, const OutputNorm& output) {
  const auto& [gamma, beta, mean, variance, residual] = output;
  if (!gamma && (beta || mean || variance || residual))
    fail<UsageError>(name<true>, "got a part of an output norm without its gamma, expected all of it or none");
  if (gamma && !(attributes.training && attributes.output.training))
    return batch_norm(quadratic_conv2d_normed(x, branches, attributes), gamma, beta, mean, variance, attributes.output,
                      residual);
  std::vector<Tensor> inputs(output_input);
  inputs[0] = x;
  for (int k = 0; k < 3; ++k) {
    const NormedBranch& branch = branches[static_cast<size_t>(k)];
    inputs[static_cast<size_t>(weight_input(k))] = branch.weight;
    inputs[static_cast<size_t>(gamma_input(k))] = branch.gamma;
    inputs[static_cast<size_t>(beta_input(k))] = branch.beta;
    inputs[static_cast<size_t>(mean_input(k))] = branch.running_mean;
    inputs[static_cast<size_t>(variance_input(k))] = branch.running_variance;
  }
  if (gamma) inputs.insert(inputs.end(), {gamma, beta, mean, variance, residual});
  return apply(attributes.training ? quadratic_conv2d_normed_op : quadratic_conv2d_normed_inference_op, inputs,
               attributes)[0];
}

}  // namespace parabola
