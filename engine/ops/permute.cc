#include "engine/ops/permute.h"

#include "engine/core/error.h"
#include "engine/ops/walk.h"

namespace parabola {
namespace {

Shape permuted_shape(const Shape& shape, const PermuteAttributes& attributes) {
  Shape result = shape;
  for (int axis = 0; axis < shape.rank(); ++axis) result = result.with(axis, shape[attributes.order[axis]]);
  return result;
}

// Strides in x along the axes of the result.
Strides permuted_strides(const Shape& shape, const PermuteAttributes& attributes) {
  const Strides own = strides_of(shape);
  Strides result{};
  for (int axis = 0; axis < shape.rank(); ++axis) result[axis] = own[attributes.order[axis]];
  return result;
}

template <class T>
void forward(const ForwardArgs& args) {
  const TensorView &x = args.inputs[0], &y = args.outputs[0];
  const Strides in_x = permuted_strides(x.shape, args.attributes.get<PermuteAttributes>());
  copy_along(Walk(y.shape, in_x, strides_of(y.shape)), x.data<T>(), y.data<T>());
}

template <class T>
void backward(const BackwardArgs& args) {
  const TensorView &dy = args.output_gradients[0], &dx = args.input_gradients[0];
  const Strides in_x = permuted_strides(dx.shape, args.attributes.get<PermuteAttributes>());
  copy_along(Walk(dy.shape, strides_of(dy.shape), in_x), dy.data<T>(), dx.data<T>(), args.accumulates(0));
}

Layout layout(const Signature& s) {
  return {.outputs = {{permuted_shape(s.shape(0), s.attributes.get<PermuteAttributes>()), s.dtype()}}};
}

}  // namespace

const OpDef permute_op = {
    .name = "permute",
    .layout = layout,
    .cost = [](const Signature& s) { return elementwise_cost(s, 0, 0); },
    .policy = Policy::recompute,
    .cpu = {
        [](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, "permute", [&]<class T>() { forward<T>(a); }); },
        [](const BackwardArgs& a) {
          dispatch_float(a.output_gradients[0].dtype, "permute", [&]<class T>() { backward<T>(a); });
        }},
};

Tensor permute(const Tensor& x, const std::vector<int>& order) {
  const int rank = x.shape().rank();
  PermuteAttributes attributes;
  uint32_t named = 0;
  for (size_t axis = 0; axis < order.size() && axis < attributes.order.size(); ++axis) {
    attributes.order[axis] = order[axis];
    if (order[axis] >= 0 && order[axis] < rank) named |= 1U << order[axis];
  }
  if (static_cast<int>(order.size()) != rank || named != (1U << rank) - 1) {
    fail<ShapeError>("permute", "got an order of ", order.size(), " axes for shape ", x.shape(),
                     ", expected each of its axes once");
  }
  return apply(permute_op, {x}, attributes);
}

}  // namespace parabola
