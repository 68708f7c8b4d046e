#include "engine/ops/slice.h"

#include "engine/core/error.h"
#include "engine/ops/view.h"
#include "engine/ops/walk.h"

namespace parabola {
namespace {

Shape sliced_shape(const Shape& shape, const SliceAttributes& a) {
  return shape.with(a.axis, (a.end - a.begin + a.step - 1) / a.step);
}

// From the place of an element of the slice in x to its place in the slice.
struct Places {
  Strides in_x, in_slice;
  int64_t first;  // where the slice begins in x
};

Places places(const Shape& x, const Shape& slice, const SliceAttributes& a) {
  Places result{strides_of(x), strides_of(slice), 0};
  result.first = a.begin * result.in_x[a.axis];
  result.in_x[a.axis] *= a.step;
  return result;
}

template <class T>
void forward(const ForwardArgs& args) {
  const Shape& out = args.outputs[0].shape;
  const Places p = places(args.inputs[0].shape, out, args.attributes.get<SliceAttributes>());
  copy_along(Walk(out, p.in_x, p.in_slice), args.inputs[0].data<T>() + p.first, args.outputs[0].data<T>());
}

template <class T>
void backward(const BackwardArgs& args) {
  const TensorView &dy = args.output_gradients[0], &dx = args.input_gradients[0];
  const Places p = places(dx.shape, dy.shape, args.attributes.get<SliceAttributes>());
  if (!args.accumulates(0)) fill_zeros(dx.data<T>(), dx.shape.elements());
  copy_along(Walk(dy.shape, p.in_slice, p.in_x), dy.data<T>(), dx.data<T>() + p.first, args.accumulates(0));
}

Layout layout(const Signature& s) {
  return {.outputs = {{sliced_shape(s.shape(0), s.attributes.get<SliceAttributes>()), s.dtype()}}};
}

StepCost cost(const Signature& s) {
  const double x = static_cast<double>(s.inputs[0].bytes()), y = static_cast<double>(layout(s).outputs[0].bytes());
  return {{0, y, y}, {0, y, x}};
}

}  // namespace

const OpDef slice_op = {
    .name = "slice",
    .layout = layout,
    .cost = cost,
    .policy = Policy::recompute,
    .cpu = {[](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, "slice", [&]<class T>() { forward<T>(a); }); },
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, "slice", [&]<class T>() { backward<T>(a); });
            }},
};

Tensor slice(const Tensor& x, int axis, int64_t begin, int64_t end, int64_t step) {
  const Shape& shape = x.shape();
  const int from_front = axis < 0 ? axis + shape.rank() : axis;
  if (from_front < 0 || from_front >= shape.rank()) {
    fail<ShapeError>("slice", "no such axis: got ", axis, " for shape ", shape);
  }
  if (begin < 0 || begin >= end || end > shape[from_front] || step < 1) {
    fail<ShapeError>("slice", "got [", begin, ", ", end, ") in steps of ", step, " on axis ", axis, " of ", shape,
                     ", expected 0 <= begin < end <= ", shape[from_front], " and a step of at least 1");
  }
  const SliceAttributes attributes{from_front, begin, end, step};
  if (step == 1 && shape.product(0, from_front) == 1) {
    return view(x, sliced_shape(shape, attributes), begin * shape.product(from_front + 1, shape.rank()));
  }
  return apply(slice_op, {x}, attributes);
}

}  // namespace parabola
