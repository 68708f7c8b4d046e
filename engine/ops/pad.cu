// pad on CUDA; what it computes is said in pad.h.
#include "engine/ops/pad.h"

#include "engine/ops/walk.cuh"

namespace parabola::pad_cuda {
namespace {

void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "pad", [&]<class T>() {
    const TensorView &x = args.inputs[0], &y = args.outputs[0];
    const Strides in_y = strides_of(y.shape);
    device_clear(args.stream, y.data<T>(), y.shape.elements());
    device_copy_along(args.stream, Walk(x.shape, strides_of(x.shape), in_y), x.data<T>(),
                      y.data<T>() + place_of(args.attributes.get<PadAttributes>().before, in_y));
  });
}

void backward(const BackwardArgs& args) {
  dispatch_any_float(args.output_gradients[0].dtype, "pad", [&]<class T>() {
    const TensorView &dy = args.output_gradients[0], &dx = args.input_gradients[0];
    const Strides in_dy = strides_of(dy.shape);
    device_copy_along(args.stream, Walk(dx.shape, in_dy, strides_of(dx.shape)),
                      dy.data<T>() + place_of(args.attributes.get<PadAttributes>().before, in_dy), dx.data<T>(),
                      args.accumulates(0));
  });
}

const CudaKernels registered(pad_op, {.kernels = {forward, backward}, .half_types = true});

}  // namespace
}  // namespace parabola::pad_cuda
