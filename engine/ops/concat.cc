#include "engine/ops/concat.h"

#include "engine/core/error.h"
#include "engine/ops/checks.h"
#include "engine/ops/walk.h"

namespace parabola {
namespace {

constexpr size_t most_tensors = 64;  // bits of the masks that say whose gradient is wanted

template <class T>
void forward(const ForwardArgs& args) {
  const int axis = args.attributes.get<ConcatAttributes>().axis;
  const Strides in_y = strides_of(args.outputs[0].shape);
  T* y = args.outputs[0].data<T>();
  for (const TensorView& x : args.inputs) {
    copy_along(Walk(x.shape, strides_of(x.shape), in_y), x.data<T>(), y);
    y += x.shape[axis] * in_y[axis];
  }
}

template <class T>
void backward(const BackwardArgs& args) {
  const int axis = args.attributes.get<ConcatAttributes>().axis;
  const Strides in_y = strides_of(args.output_gradients[0].shape);
  const T* dy = args.output_gradients[0].data<T>();
  for (size_t i = 0; i < args.inputs.size(); ++i) {
    const Shape& shape = args.inputs[i].shape;
    if (args.wants(static_cast<int>(i))) {
      copy_along(Walk(shape, in_y, strides_of(shape)), dy, args.input_gradients[i].data<T>(),
                 args.accumulates(static_cast<int>(i)));
    }
    dy += shape[axis] * in_y[axis];
  }
}

Layout layout(const Signature& s) {
  const int axis = s.attributes.get<ConcatAttributes>().axis;
  require_one_dtype("concat", s);
  int64_t size = 0;
  for (const TensorSpec& spec : s.inputs) {
    if (spec.shape.rank() != s.shape(0).rank() || spec.shape.with(axis, 0) != s.shape(0).with(axis, 0)) {
      fail<ShapeError>("concat", "got ", s.shape(0), " and ", spec.shape, ", expected equal sizes but on axis ", axis);
    }
    size += spec.shape[axis];
  }
  return {.outputs = {{s.shape(0).with(axis, size), s.dtype()}}};
}

StepCost cost(const Signature& s) {
  const double bytes = static_cast<double>(layout(s).outputs[0].bytes());
  StepCost result{{0, bytes, bytes}, {}};
  for (size_t i = 0; i < s.inputs.size(); ++i) {
    if (!s.wants_gradient(static_cast<int>(i))) continue;
    result.backward.bytes_read += static_cast<double>(s.inputs[i].bytes());
    result.backward.bytes_written += static_cast<double>(s.inputs[i].bytes());
  }
  return result;
}

}  // namespace

const OpDef concat_op = {
    .name = "concat",
    .layout = layout,
    .cost = cost,
    .policy = Policy::recompute,
    .cpu = {
        [](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, "concat", [&]<class T>() { forward<T>(a); }); },
        [](const BackwardArgs& a) {
          dispatch_float(a.output_gradients[0].dtype, "concat", [&]<class T>() { backward<T>(a); });
        }},
};

Tensor concat(const std::vector<Tensor>& tensors, int axis) {
  if (tensors.empty() || tensors.size() > most_tensors) {
    fail<UsageError>("concat", "got ", tensors.size(), " tensors, expected 1 to ", most_tensors);
  }
  const int rank = tensors[0].shape().rank(), from_front = axis < 0 ? axis + rank : axis;
  if (from_front < 0 || from_front >= rank) {
    fail<ShapeError>("concat", "no such axis: got ", axis, " for shape ", tensors[0].shape());
  }
  return apply(concat_op, std::span<const Tensor>(tensors), ConcatAttributes{from_front})[0];
}

}  // namespace parabola
