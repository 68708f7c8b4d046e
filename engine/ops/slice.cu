// slice on CUDA; what it computes is said in slice.h.
#include "engine/ops/slice.h"

#include "engine/ops/walk.cuh"

namespace parabola::slice_cuda {
namespace {

// x and the slice as [axes in front, the axis, axes behind]: the strides of the slice's elements in either.
struct Places {
  Shape shape;
  Strides in_x, in_slice;
  int64_t first;  // where the slice begins in x
};

Places places(const Shape& x, const Shape& slice, const SliceAttributes& a) {
  const int64_t outer = x.product(0, a.axis), inner = x.product(a.axis + 1, x.rank()), count = slice[a.axis];
  return {{outer, count, inner}, {x[a.axis] * inner, a.step * inner, 1}, {count * inner, inner, 1}, a.begin * inner};
}

void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "slice", [&]<class T>() {
    const TensorView &x = args.inputs[0], &y = args.outputs[0];
    const Places p = places(x.shape, y.shape, args.attributes.get<SliceAttributes>());
    device_copy_along(args.stream, Walk(p.shape, p.in_x, p.in_slice), x.data<T>() + p.first, y.data<T>());
  });
}

void backward(const BackwardArgs& args) {
  dispatch_any_float(args.output_gradients[0].dtype, "slice", [&]<class T>() {
    const TensorView &dy = args.output_gradients[0], &dx = args.input_gradients[0];
    const Places p = places(dx.shape, dy.shape, args.attributes.get<SliceAttributes>());
    if (!args.accumulates(0)) device_clear(args.stream, dx.data<T>(), dx.shape.elements());
    device_copy_along(args.stream, Walk(p.shape, p.in_slice, p.in_x), dy.data<T>(), dx.data<T>() + p.first,
                      args.accumulates(0));
  });
}

const CudaKernels registered(slice_op, {.kernels = {forward, backward}, .half_types = true});

}  // namespace
}  // namespace parabola::slice_cuda
