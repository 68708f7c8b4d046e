// batch_norm_relu_conv2d on CUDA: batch_norm's kernels into scratch, and a convolution from there.
#include "engine/ops/conv2d/batch_norm_relu_conv2d.h"

#include "engine/ops/conv2d/convolve.cuh"
#include "engine/ops/conv2d/normed_input.h"

namespace parabola::batch_norm_relu_conv2d_cuda {
namespace {

using namespace normed_input;

// gradient += the one that the second result has from elsewhere.
template <class T>
__global__ void batch_norm_relu_conv2d_add(const T* other, T* gradient, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) gradient[i] = other[i] + gradient[i];
}

// By the gradients that are wanted; none: forward.
template <class T>
Buffers<T> buffers_of(Scratch& scratch, const ConvGeometry& g, bool returns_normed, uint64_t wanted) {
  const bool forward = wanted == 0, weight = wanted >> weight_input & 1;
  const Layout norm = inner_norm_layout(g.input_shape(), dtype_of<T>, DeviceKind::cuda);
  size_t most = forward ? std::max(norm.forward_workspace, device_convolve_workspace<T>(g)) : 0;
  if (wants_norm(wanted)) most = std::max(most, norm.backward_workspace);
  if (!forward) most = std::max(most, device_convolve_backward_workspace<T>(g, wants_norm(wanted), weight, false));
  return {scratch, g, forward ? !returns_normed : weight, wants_norm(wanted) && !(wanted & 1), most};
}

template <class T>
void forward(const ForwardArgs& args) {
  const ConvGeometry g = geometry_of(args.attributes, args.inputs[0].shape, args.inputs[weight_input].shape);
  Scratch scratch(args.workspace);
  const bool returns_normed = args.outputs.size() > 1;
  const Buffers<T> buffers = buffers_of<T>(scratch, g, returns_normed, 0);
  const TensorView normed = returns_normed ? args.outputs[1] : buffers.view(buffers.normed);
  inner_norm(norm_kernels(DeviceKind::cuda), args, buffers.tools).forward(normed, args.replay, args.auxiliary_ready);
  device_convolve<T>(args.stream, g, normed.data<T>(), args.inputs[weight_input].data<T>(), nullptr,
                     args.outputs[0].data<T>(), reinterpret_cast<T*>(buffers.tools));
}

template <class T>
void backward(const BackwardArgs& args) {
  const ConvGeometry g = geometry_of(args.attributes, args.inputs[0].shape, args.inputs[weight_input].shape);
  const uint64_t wanted = wanted_by(args);
  Scratch scratch(args.workspace);
  const Buffers<T> buffers = buffers_of<T>(scratch, g, args.output_gradients.size() > 1, wanted);
  const InnerBatchNorm norm = inner_norm(norm_kernels(DeviceKind::cuda), args, buffers.tools);
  if (args.wants(weight_input)) norm.forward(buffers.view(buffers.normed), true, true);
  T* gradient = args.wants(0) ? args.input_gradients[0].data<T>() : buffers.gradient;
  device_convolve_backward<T>(args.stream, g, buffers.normed, args.inputs[weight_input].data<T>(),
                              args.output_gradients[0].data<T>(),
                              {.dx = wants_norm(wanted) ? gradient : nullptr,
                               .dw = args.input_gradients[weight_input].data<T>(),
                               .accumulate_dw = args.accumulates(weight_input)},
                              buffers.tools);
  if (!wants_norm(wanted)) return;
  if (args.output_gradients.size() > 1) {
    const int64_t count = buffers.x.shape.elements();
    launch(batch_norm_relu_conv2d_add<T>, blocks_for(count), block_size, 0, args.stream,
           static_cast<const T*>(args.output_gradients[1].data<T>()), gradient, count);
  }
  norm.backward(buffers.x, buffers.view(gradient), args.input_gradients.first(norm_inputs),
                args.accumulate & norm_mask);
}

template <bool is_backward>
size_t workspace(const Signature& s) {
  if (is_backward && s.gradient_mask == 0) return 0;
  const ConvGeometry g = geometry_of(s.attributes, s.shape(0), s.shape(weight_input));
  Scratch scratch;
  dispatch_float(s.dtype(), "batch_norm_relu_conv2d", [&]<class T>() {
    buffers_of<T>(scratch, g, s.attributes.get<BatchNormReluConv2dAttributes>().returns_normed,
                  is_backward ? s.gradient_mask : 0);
  });
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
