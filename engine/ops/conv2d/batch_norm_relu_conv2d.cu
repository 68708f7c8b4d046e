// batch_norm_relu_conv2d on CUDA: batch_norm's kernels into scratch, and a convolution from there.
#include "engine/ops/conv2d/batch_norm_relu_conv2d.h"

#include "engine/ops/conv2d/convolve.cuh"
#include "engine/ops/conv2d/normed_input.h"

namespace parabola::batch_norm_relu_conv2d_cuda {
namespace {

using namespace normed_input;

const CudaKernels::Entry& norm() { return *CudaKernels::of(batch_norm_op); }

// By the gradients that are wanted; none: forward.
template <class T>
Buffers<T> buffers_of(Scratch& scratch, const ConvGeometry& g, uint64_t wanted) {
  const bool forward = wanted == 0, weight = wanted >> weight_input & 1;
  const Shape channel{g.C};
  const DType dtype = sizeof(T) == 8 ? DType::f64 : DType::f32;
  const std::vector<TensorSpec> inputs = {
      {g.input_shape(), dtype}, {channel, dtype}, {channel, dtype}, {channel, dtype}, {channel, dtype}};
  const Attributes attributes = BatchNormOptions{.relu = true};
  const Signature signature{attributes, inputs, wanted & norm_mask};
  size_t most = 0;
  if (forward || weight) most = norm().forward_workspace(signature);
  if (forward) most = std::max(most, device_convolve_workspace<T>(g));
  if (wants_norm(wanted)) most = std::max(most, norm().backward_workspace(signature));
  if (!forward) most = std::max(most, device_convolve_backward_workspace<T>(g, wants_norm(wanted), weight, false));
  return {scratch, g, forward || weight, wants_norm(wanted) && !(wanted & 1), most};
}

template <class T, class Args>
TensorView normed(const Args& args, const ConvGeometry& g, const Buffers<T>& buffers) {
  return {buffers.normed, g.input_shape(), args.inputs[0].dtype};
}

template <class T>
void forward(const ForwardArgs& args) {
  const ConvGeometry g = geometry_of(args.attributes, args.inputs[0].shape, args.inputs[weight_input].shape);
  Scratch scratch(args.workspace);
  const Buffers<T> buffers = buffers_of<T>(scratch, g, 0);
  normalise(norm().kernels, args, normed(args, g, buffers), buffers.tools, args.replay, args.auxiliary_ready);
  device_convolve<T>(args.stream, g, buffers.normed, args.inputs[weight_input].data<T>(), nullptr,
                     args.outputs[0].data<T>(), reinterpret_cast<T*>(buffers.tools));
}

template <class T>
void backward(const BackwardArgs& args) {
  const ConvGeometry g = geometry_of(args.attributes, args.inputs[0].shape, args.inputs[weight_input].shape);
  uint64_t wanted = 0;
  for (int i = 0; i <= weight_input; ++i) wanted |= uint64_t{args.wants(i)} << i;
  Scratch scratch(args.workspace);
  const Buffers<T> buffers = buffers_of<T>(scratch, g, wanted);
  if (args.wants(weight_input)) normalise(norm().kernels, args, normed(args, g, buffers), buffers.tools, true, true);
  T* gradient = args.wants(0) ? args.input_gradients[0].data<T>() : buffers.gradient;
  device_convolve_backward<T>(args.stream, g, buffers.normed, args.inputs[weight_input].data<T>(),
                              args.output_gradients[0].data<T>(),
                              {.dx = wants_norm(wanted) ? gradient : nullptr,
                               .dw = args.input_gradients[weight_input].data<T>(),
                               .accumulate_dw = args.accumulates(weight_input)},
                              buffers.tools);
  if (wants_norm(wanted))
    norm_backward(norm().kernels, args, {gradient, g.input_shape(), args.inputs[0].dtype}, buffers.tools);
}

template <bool is_backward>
size_t workspace(const Signature& s) {
  if (is_backward && s.gradient_mask == 0) return 0;
  const ConvGeometry g = geometry_of(s.attributes, s.shape(0), s.shape(weight_input));
  Scratch scratch;
  dispatch_float(s.dtype(), "batch_norm_relu_conv2d",
                 [&]<class T>() { buffers_of<T>(scratch, g, is_backward ? s.gradient_mask : 0); });
  return scratch.bytes();
}

const CudaKernels registered(batch_norm_relu_conv2d_op,
                             {.kernels = {[](const ForwardArgs& a) {
                                            dispatch_float(a.inputs[0].dtype, "batch_norm_relu_conv2d",
                                                           [&]<class T>() { forward<T>(a); });
                                          },
                                          [](const BackwardArgs& a) {
                                            dispatch_float(a.output_gradients[0].dtype, "batch_norm_relu_conv2d",
                                                           [&]<class T>() { backward<T>(a); });
                                          }},
                              .forward_workspace = workspace<false>,
                              .backward_workspace = workspace<true>});

}  // namespace
}  // namespace parabola::batch_norm_relu_conv2d_cuda
