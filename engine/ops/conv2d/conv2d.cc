#include "engine/ops/conv2d/conv2d.h"

#include <algorithm>

#include "engine/ops/bias.h"
#include "engine/ops/checks.h"
#include "engine/ops/conv2d/convolve.h"

namespace parabola {
namespace {

ConvGeometry geometry_of(const Attributes& attributes, const Shape& x, const Shape& weight) {
  return conv_geometry("conv2d", x, weight, attributes.get<ConvAttributes>());
}

Layout layout(const Signature& s) {
  const ConvGeometry g = geometry_of(s.attributes, s.shape(0), s.shape(1));
  require_shape("conv2d", s, 2, "bias", {g.K});
  require_one_dtype("conv2d", s);
  int64_t backward = 0;
  if (s.wants_gradient(0)) backward = std::max(backward, input_gradient_workspace(g));
  if (s.wants_gradient(1)) backward = std::max(backward, weight_gradient_workspace(g));
  if (s.wants_gradient(2)) backward = std::max(backward, bias_gradient_workspace(g.pixels(), g.K));
  return {.outputs = {{g.output_shape(), s.dtype()}},
          .forward_workspace = static_cast<size_t>(convolve_workspace(g)) * size_of(s.dtype()),
          .backward_workspace = static_cast<size_t>(backward) * size_of(s.dtype())};
}

StepCost cost(const Signature& s) {
  const ConvGeometry g = geometry_of(s.attributes, s.shape(0), s.shape(1));
  const double x = static_cast<double>(s.inputs[0].bytes()), w = static_cast<double>(s.inputs[1].bytes());
  const double outputs = static_cast<double>(g.pixels() * g.K), y = outputs * static_cast<double>(size_of(s.dtype()));
  StepCost cost{.forward = {g.flops(), x + w, y}};
  add_backward(cost, s, 0, {g.flops(), y + w, x});
  add_backward(cost, s, 1, {g.flops(), y + x, w});
  add_backward(cost, s, 2, {outputs, y, 0});
  return cost;
}

template <class T>
void forward(const ForwardArgs& args) {
  const ConvGeometry g = geometry_of(args.attributes, args.inputs[0].shape, args.inputs[1].shape);
  convolve(g, args.inputs[0].data<T>(), args.inputs[1].data<T>(), args.inputs[2].data<T>(), args.outputs[0].data<T>(),
           reinterpret_cast<T*>(args.workspace));
}

template <class T>
void backward(const BackwardArgs& args) {
  const ConvGeometry g = geometry_of(args.attributes, args.inputs[0].shape, args.inputs[1].shape);
  const T *x = args.inputs[0].data<T>(), *weight = args.inputs[1].data<T>(), *dy = args.output_gradients[0].data<T>();
  const auto gradient = [&](int i) { return args.input_gradients[static_cast<size_t>(i)].data<T>(); };
  T* workspace = reinterpret_cast<T*>(args.workspace);
  if (args.wants(0)) input_gradient(g, dy, weight, gradient(0), args.accumulates(0), workspace);
  if (args.wants(1)) weight_gradient(g, x, dy, gradient(1), args.accumulates(1), workspace);
  if (args.wants(2)) bias_gradient(dy, g.pixels(), g.K, gradient(2), args.accumulates(2), workspace);
}

}  // namespace

const OpDef conv2d_op = {
    .name = "conv2d",
    .layout = layout,
    .cost = cost,
    .needs =
        [](const Signature& s) {
          return Needs{.inputs = (s.wants_gradient(1) ? uint64_t{1} : 0) | (s.wants_gradient(0) ? uint64_t{2} : 0)};
        },
    .cpu = {
        [](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, "conv2d", [&]<class T>() { forward<T>(a); }); },
        [](const BackwardArgs& a) {
          dispatch_float(a.output_gradients[0].dtype, "conv2d", [&]<class T>() { backward<T>(a); });
        }},
};

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const ConvAttributes& attributes) {
  return apply(conv2d_op, {x, weight, bias}, attributes);
}

}  // namespace parabola
