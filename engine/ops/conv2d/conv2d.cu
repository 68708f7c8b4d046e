// conv2d on CUDA.
#include "engine/ops/conv2d/conv2d.h"

#include "engine/ops/conv2d/convolve.cuh"

namespace parabola::conv2d_cuda {
namespace {

ConvGeometry geometry_of(const Attributes& attributes, const Shape& x, const Shape& weight) {
  return conv_geometry("conv2d", x, weight, attributes.get<ConvAttributes>());
}

template <class T>
void forward(const ForwardArgs& args) {
  const ConvGeometry g = geometry_of(args.attributes, args.inputs[0].shape, args.inputs[1].shape);
  device_convolve(args.stream, g, args.inputs[0].data<T>(), args.inputs[1].data<T>(), args.inputs[2].data<T>(),
                  args.outputs[0].data<T>(), reinterpret_cast<T*>(args.workspace));
}

template <class T>
void backward(const BackwardArgs& args) {
  const ConvGeometry g = geometry_of(args.attributes, args.inputs[0].shape, args.inputs[1].shape);
  const ConvGradients<T> gradients{args.input_gradients[0].data<T>(),
                                   args.input_gradients[1].data<T>(),
                                   args.input_gradients[2].data<T>(),
                                   args.accumulates(0),
                                   args.accumulates(1),
                                   args.accumulates(2)};
  device_convolve_backward(args.stream, g, args.inputs[0].data<T>(), args.inputs[1].data<T>(),
                           args.output_gradients[0].data<T>(), gradients, args.workspace);
}

size_t forward_workspace(const Signature& s) {
  const ConvGeometry g = geometry_of(s.attributes, s.shape(0), s.shape(1));
  return s.dtype() == DType::f64 ? device_convolve_workspace<double>(g) : device_convolve_workspace<float>(g);
}

size_t backward_workspace(const Signature& s) {
  const ConvGeometry g = geometry_of(s.attributes, s.shape(0), s.shape(1));
  const auto bytes =
      s.dtype() == DType::f64 ? device_convolve_backward_workspace<double> : device_convolve_backward_workspace<float>;
  return bytes(g, s.wants_gradient(0), s.wants_gradient(1), s.wants_gradient(2));
}

const CudaKernels registered(conv2d_op, {.kernels = {[](const ForwardArgs& a) {
                                                       dispatch_float(a.inputs[0].dtype, "conv2d",
                                                                      [&]<class T>() { forward<T>(a); });
                                                     },
                                                     [](const BackwardArgs& a) {
                                                       dispatch_float(a.output_gradients[0].dtype, "conv2d",
                                                                      [&]<class T>() { backward<T>(a); });
                                                     }},
                                         .forward_workspace = forward_workspace,
                                         .backward_workspace = backward_workspace});

}  // namespace
}  // namespace parabola::conv2d_cuda
