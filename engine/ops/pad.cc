#include "engine/ops/pad.h"

#include "engine/core/error.h"
#include "engine/ops/walk.h"

namespace parabola {
namespace {

template <class T>
void forward(const ForwardArgs& args) {
  const TensorView &x = args.inputs[0], &y = args.outputs[0];
  const Strides in_y = strides_of(y.shape);
  fill_zeros(y.data<T>(), y.shape.elements());
  copy_along(Walk(x.shape, strides_of(x.shape), in_y), x.data<T>(),
             y.data<T>() + place_of(args.attributes.get<PadAttributes>().before, in_y));
}

template <class T>
void backward(const BackwardArgs& args) {
  const TensorView &dy = args.output_gradients[0], &dx = args.input_gradients[0];
  const Strides in_dy = strides_of(dy.shape);
  copy_along(Walk(dx.shape, in_dy, strides_of(dx.shape)),
             dy.data<T>() + place_of(args.attributes.get<PadAttributes>().before, in_dy), dx.data<T>(),
             args.accumulates(0));
}

Layout layout(const Signature& s) {
  const auto& [before, after] = s.attributes.get<PadAttributes>();
  Shape shape = s.shape(0);
  for (int axis = 0; axis < shape.rank(); ++axis) shape = shape.with(axis, before[axis] + shape[axis] + after[axis]);
  return {.outputs = {{shape, s.dtype()}}};
}

StepCost cost(const Signature& s) {
  const double x = static_cast<double>(s.inputs[0].bytes()), y = static_cast<double>(layout(s).outputs[0].bytes());
  return {{0, x, y}, {0, x, x}};
}

}  // namespace

const OpDef pad_op = {
    .name = "pad",
    .layout = layout,
    .cost = cost,
    .policy = Policy::recompute,
    .cpu = {[](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, "pad", [&]<class T>() { forward<T>(a); }); },
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, "pad", [&]<class T>() { backward<T>(a); });
            }},
};

Tensor pad(const Tensor& x, const std::vector<int64_t>& before, const std::vector<int64_t>& after) {
  const size_t rank = static_cast<size_t>(x.shape().rank());
  if (before.size() != rank || after.size() != rank) {
    fail<ShapeError>("pad", "got ", before.size(), " sizes before and ", after.size(), " after, expected ", rank,
                     " each for shape ", x.shape());
  }
  PadAttributes attributes;
  for (size_t axis = 0; axis < rank; ++axis) {
    if (before[axis] < 0 || after[axis] < 0) {
      fail<ShapeError>("pad", "got ", before[axis], " and ", after[axis], " on axis ", axis, ", expected at least 0");
    }
    attributes.before[axis] = before[axis];
    attributes.after[axis] = after[axis];
  }
  return apply(pad_op, {x}, attributes);
}

}  // namespace parabola
