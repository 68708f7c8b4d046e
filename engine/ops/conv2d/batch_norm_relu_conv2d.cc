#include "engine/ops/conv2d/batch_norm_relu_conv2d.h"

#include "engine/ops/batch_norm_kernels.h"
#include "engine/ops/checks.h"
#include "engine/ops/conv2d/convolve.h"
#include "engine/ops/conv2d/normed_input.h"

namespace parabola {
namespace {

using namespace batch_norm_kernels;
using namespace normed_input;

constexpr const char* name = "batch_norm_relu_conv2d";

// Of one pass, by the gradients that are wanted; none: forward.
template <class T>
Buffers<T> buffers_of(Scratch& scratch, const ConvGeometry& g, bool returns_normed, uint64_t wanted) {
  const bool forward = wanted == 0, convolves = forward || wanted >> weight_input & 1;
  const Layout norm = inner_norm_layout(g.input_shape(), dtype_of<T>, DeviceKind::cpu);
  const auto elements = [](size_t bytes) { return static_cast<int64_t>(bytes / sizeof(T)); };
  const bool writes_normed = convolves && !reads_normed(g) && !(forward && returns_normed);
  int64_t most = forward || writes_normed ? elements(norm.forward_workspace) : 0;
  if (forward) most = std::max(most, convolve_workspace(g));
  if (wants_norm(wanted)) most = std::max({most, elements(norm.backward_workspace), input_gradient_workspace(g)});
  if (!forward && convolves) most = std::max(most, weight_gradient_workspace(g));
  return {scratch, g, writes_normed, wants_norm(wanted) && !(wanted & 1), static_cast<size_t>(most) * sizeof(T)};
}

Layout layout(const Signature& s) {
  const ConvGeometry g = geometry_of(s.attributes, s.shape(x_input), s.shape(weight_input));
  constexpr const char* arguments[] = {"x", "gamma", "beta", "running mean", "running variance"};
  for (int i = gamma_input; i <= variance_input; ++i) require_shape(name, s, i, arguments[i], {g.C});
  require_shape(name, s, residual_input, "residual", s.shape(x_input));
  require_one_dtype(name, s);
  if (g.N * g.H * g.W < 2)
    fail<ShapeError>(name, "got x of shape ", s.shape(x_input), ", expected at least 2 values for each channel");
  const TensorSpec channel{Shape{g.C}, s.dtype()};
  Layout result{.outputs = {{g.output_shape(), s.dtype()}}, .auxiliary = {channel, channel}};
  const bool returns_normed = s.attributes.get<BatchNormReluConv2dAttributes>().returns_normed;
  if (returns_normed) result.outputs.push_back(s.inputs[x_input]);
  dispatch_float(s.dtype(), name, [&]<class T>() {
    Scratch forward, backward;
    buffers_of<T>(forward, g, returns_normed, 0);
    if (s.gradient_mask != 0) buffers_of<T>(backward, g, returns_normed, s.gradient_mask);
    result.forward_workspace = forward.bytes();
    result.backward_workspace = backward.bytes();
  });
  return result;
}

Needs needs(const Signature& s) {
  const bool norm = wants_norm(s.gradient_mask);
  return {.inputs = uint64_t{1} << x_input | uint64_t{1} << gamma_input | uint64_t{1} << beta_input |
                    uint64_t{s.has(residual_input)} << residual_input | uint64_t{norm} << weight_input,
          .auxiliary = 3};
}

// An element of x: batch_norm's flops, those of its relu, and, backward, 4 to make what the weight's gradient reads;
// one more each time for a residual.
StepCost cost(const Signature& s) {
  const ConvGeometry g = geometry_of(s.attributes, s.shape(x_input), s.shape(weight_input));
  const double elements = static_cast<double>(s.shape(x_input).elements());
  const int adds = s.has(residual_input);
  const double x = static_cast<double>(s.inputs[x_input].bytes()),
               w = static_cast<double>(s.inputs[weight_input].bytes());
  const double y = static_cast<double>(g.pixels() * g.K) * static_cast<double>(size_of(s.dtype()));
  const double residual = adds * x;
  StepCost cost{.forward = {g.flops() + (9 + adds) * elements, x + residual + w, y}};
  if (wants_norm(s.gradient_mask)) {
    cost.backward = {g.flops() + (9 + adds) * elements, y + w + x + residual, 0};
    add_backward(cost, s, x_input, {5 * elements, 0, x});
    add_backward(cost, s, residual_input, {0, 0, residual});
  }
  add_backward(cost, s, weight_input, {g.flops() + (4 + adds) * elements, y + x + residual, w});
  if (s.attributes.get<BatchNormReluConv2dAttributes>().returns_normed) {
    cost.forward.bytes_written += x;
    if (wants_norm(s.gradient_mask)) cost.backward.flops += elements, cost.backward.bytes_read += x;
  }
  return cost;
}

// What the convolution reads, the statistics being known: x itself with its norm, or what batch_norm writes for it.
template <class T, class Args>
ConvInput<T> normed(const Args& args, const ConvGeometry& g, const Buffers<T>& buffers) {
  if (!reads_normed(g)) {
    inner_norm(norm_kernels(DeviceKind::cpu), args, buffers.tools).forward(buffers.view(buffers.normed), true, true);
    return buffers.normed;
  }
  const T *gamma = args.inputs[gamma_input].template data<T>(), *invstd = args.auxiliary[1].template data<T>();
  for (int64_t c = 0; c < g.C; ++c) buffers.scale[c] = gamma[c] * invstd[c];
  return {args.inputs[x_input].template data<T>(), args.auxiliary[0].template data<T>(), buffers.scale,
          args.inputs[beta_input].template data<T>(), args.inputs[residual_input].template data<T>()};
}

template <class T>
void forward(const ForwardArgs& args) {
  const ConvGeometry g = geometry_of(args.attributes, args.inputs[x_input].shape, args.inputs[weight_input].shape);
  Scratch scratch(args.workspace);
  const bool returns_normed = args.outputs.size() > 1;
  const Buffers<T> buffers = buffers_of<T>(scratch, g, returns_normed, 0);
  T* tools = reinterpret_cast<T*>(buffers.tools);
  const InnerBatchNorm norm = inner_norm(norm_kernels(DeviceKind::cpu), args, buffers.tools);
  if (!args.auxiliary_ready)
    batch_statistics<T>({.attributes = norm.attributes,
                         .inputs = norm.inputs,
                         .auxiliary = args.auxiliary,
                         .workspace = buffers.tools,
                         .replay = args.replay});
  if (returns_normed) norm.forward(args.outputs[1], true, true);
  const ConvInput<T> x = returns_normed ? args.outputs[1].data<T>() : normed<T>(args, g, buffers);
  convolve<T>(g, x, args.inputs[weight_input].data<T>(), nullptr, args.outputs[0].data<T>(), tools);
}

template <class T>
void backward(const BackwardArgs& args) {
  const ConvGeometry g = geometry_of(args.attributes, args.inputs[x_input].shape, args.inputs[weight_input].shape);
  const uint64_t wanted = wanted_by(args);
  Scratch scratch(args.workspace);
  const bool returns_normed = args.output_gradients.size() > 1;
  const Buffers<T> buffers = buffers_of<T>(scratch, g, returns_normed, wanted);
  T* tools = reinterpret_cast<T*>(buffers.tools);
  const T* dy = args.output_gradients[0].data<T>();
  if (args.wants(weight_input))
    weight_gradient<T>(g, normed<T>(args, g, buffers), dy, args.input_gradients[weight_input].data<T>(),
                       args.accumulates(weight_input), tools);
  if (!wants_norm(wanted)) return;
  T* gradient = args.wants(x_input) ? args.input_gradients[x_input].data<T>() : buffers.gradient;
  if (returns_normed) {
    const T* other = args.output_gradients[1].data<T>();
    parallel_for(g.N * g.H * g.W * g.C, elementwise_grain,
                 [=](int64_t begin, int64_t end) { std::copy(other + begin, other + end, gradient + begin); });
  }
  input_gradient<T>(g, dy, args.inputs[weight_input].data<T>(), gradient, returns_normed, tools);
  inner_norm(norm_kernels(DeviceKind::cpu), args, buffers.tools)
      .backward(buffers.x, buffers.view(gradient), args.input_gradients.first(norm_inputs),
                args.accumulate & norm_mask);
}

}  // namespace

const OpDef batch_norm_relu_conv2d_op = {
    .name = name,
    .layout = layout,
    .cost = cost,
    .needs = needs,
    .mutates = uint64_t{1} << mean_input | uint64_t{1} << variance_input,
    .overwrites = uint64_t{1} << x_input,
    .optional = uint64_t{1} << residual_input,
    .cpu = {[](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, name, [&]<class T>() { forward<T>(a); }); },
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, name, [&]<class T>() { backward<T>(a); });
            }},
};

Tensor batch_norm_relu_conv2d(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                              const Tensor& running_variance, const Tensor& weight,
                              BatchNormReluConv2dAttributes attributes, const Tensor& residual, Tensor* normed) {
  attributes.returns_normed = normed != nullptr;
  const std::array inputs{x, gamma, beta, running_mean, running_variance, residual, weight};
  const std::vector<Tensor> results = apply(batch_norm_relu_conv2d_op, inputs, attributes);
  if (normed) *normed = results[1];
  return results[0];
}

}  // namespace parabola
