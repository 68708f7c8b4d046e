// concat on CUDA; what it computes is said in concat.h.
#include "engine/ops/concat.h"

#include "engine/ops/walk.cuh"

namespace parabola::concat_cuda {
namespace {

void forward(const ForwardArgs& args) {
  dispatch_any_float(args.outputs[0].dtype, "concat", [&]<class T>() {
    const int axis = args.attributes.get<ConcatAttributes>().axis;
    const Strides in_y = strides_of(args.outputs[0].shape);
    T* y = args.outputs[0].data<T>();
    for (const TensorView& x : args.inputs) {
      device_copy_along(args.stream, Walk(x.shape, strides_of(x.shape), in_y), x.data<T>(), y);
      y += x.shape[axis] * in_y[axis];
    }
  });
}

void backward(const BackwardArgs& args) {
  dispatch_any_float(args.output_gradients[0].dtype, "concat", [&]<class T>() {
    const int axis = args.attributes.get<ConcatAttributes>().axis;
    const Strides in_dy = strides_of(args.output_gradients[0].shape);
    const T* dy = args.output_gradients[0].data<T>();
    for (int i = 0; i < static_cast<int>(args.inputs.size()); ++i) {
      const TensorView& dx = args.input_gradients[i];
      const Shape& shape = args.inputs[i].shape;
      if (dx)
        device_copy_along(args.stream, Walk(shape, in_dy, strides_of(shape)), dy, dx.data<T>(), args.accumulates(i));
      dy += shape[axis] * in_dy[axis];
    }
  });
}

const CudaKernels registered(concat_op, {.kernels = {forward, backward}, .half_types = true});

}  // namespace
}  // namespace parabola::concat_cuda
