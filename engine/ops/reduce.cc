#include "engine/ops/reduce.h"

#include "engine/core/error.h"
#include "engine/ops/reduction.h"
#include "engine/ops/walk.h"

namespace parabola {
namespace {

// The result's shape; with `keep`, the axes stay with size 1.
Shape reduced_shape(const Shape& shape, AxisMask axes, bool keep) {
  std::vector<int64_t> sizes;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (!(axes >> axis & 1)) {
      sizes.push_back(shape[axis]);
    } else if (keep) {
      sizes.push_back(1);
    }
  }
  return Shape(std::span<const int64_t>(sizes));
}

template <bool is_mean>
constexpr const char* name = is_mean ? "mean" : "sum";

// What a sum is multiplied by.
template <bool is_mean>
double scale_of(const Shape& shape, AxisMask axes) {
  if (!is_mean) return 1;
  double count = 1;
  for (int axis = 0; axis < shape.rank(); ++axis) count *= axes >> axis & 1 ? static_cast<double>(shape[axis]) : 1;
  return 1 / count;
}

template <bool is_mean, class T>
void forward(const ForwardArgs& args) {
  const AxisMask axes = args.attributes.get<ReduceAttributes>().axes;
  const T* x = args.inputs[0].data<T>();
  T* y = args.outputs[0].data<T>();
  const double scale = scale_of<is_mean>(args.inputs[0].shape, axes);
  Reduction(args.inputs[0].shape, axes)
      .run<T>(
          reinterpret_cast<T*>(args.workspace), [=](int64_t i) { return x[i]; },
          [=](int64_t i, double sum) { y[i] = static_cast<T>(scale * sum); });
}

template <bool is_mean, class T>
void backward(const BackwardArgs& args) {
  const AxisMask axes = args.attributes.get<ReduceAttributes>().axes;
  const Shape& shape = args.input_gradients[0].shape;
  const T* dy = args.output_gradients[0].data<T>();
  T* dx = args.input_gradients[0].data<T>();
  const T scale = static_cast<T>(scale_of<is_mean>(shape, axes));
  const bool accumulate = args.accumulates(0);
  const Walk walk(shape, broadcast_strides(reduced_shape(shape, axes, true), shape), strides_of(shape));
  const int64_t step = walk.step_a();
  walk.each_row([=](int64_t i, int64_t at, int64_t, int64_t count) {
    for (int64_t k = 0; k < count; ++k) {
      const T d = scale * dy[at + k * step];
      dx[i + k] = accumulate ? dx[i + k] + d : d;
    }
  });
}

template <bool is_mean>
Layout layout(const Signature& s) {
  const auto& attributes = s.attributes.get<ReduceAttributes>();
  Layout result{.outputs = {{reduced_shape(s.shape(0), attributes.axes, attributes.keep), s.dtype()}}};
  dispatch_any_float(s.dtype(), name<is_mean>, [&]<class T>() {
    result.forward_workspace = Reduction(s.shape(0), attributes.axes).template workspace<T>();
  });
  return result;
}

template <bool is_mean>
constexpr OpDef define() {
  return {
      .name = name<is_mean>,
      .layout = layout<is_mean>,
      .cost = [](const Signature& s) { return elementwise_cost(s, 1, is_mean ? 1 : 0); },
      .cpu = {[](const ForwardArgs& a) {
                dispatch_float(a.inputs[0].dtype, name<is_mean>, [&]<class T>() { forward<is_mean, T>(a); });
              },
              [](const BackwardArgs& a) {
                dispatch_float(a.output_gradients[0].dtype, name<is_mean>, [&]<class T>() { backward<is_mean, T>(a); });
              }},
  };
}

ReduceAttributes attributes_of(const char* op, const Tensor& x, const std::vector<int>& axes, bool keep) {
  const int rank = x.shape().rank();
  if (axes.empty()) return {(AxisMask{1} << rank) - 1, keep};
  ReduceAttributes attributes{0, keep};
  for (const int axis : axes) {
    const int from_front = axis < 0 ? axis + rank : axis;
    if (from_front < 0 || from_front >= rank) {
      fail<ShapeError>(op, "no such axis: got ", axis, " for shape ", x.shape(), ", expected ", -rank, " to ",
                       rank - 1);
    }
    if (attributes.axes >> from_front & 1) fail<ShapeError>(op, "axis ", axis, " is named twice");
    attributes.axes |= AxisMask{1} << from_front;
  }
  return attributes;
}

}  // namespace

const OpDef sum_op = define<false>();
const OpDef mean_op = define<true>();

Tensor sum(const Tensor& x, const std::vector<int>& axes, bool keep) {
  return apply(sum_op, {x}, attributes_of("sum", x, axes, keep));
}

Tensor mean(const Tensor& x, const std::vector<int>& axes, bool keep) {
  return apply(mean_op, {x}, attributes_of("mean", x, axes, keep));
}

Tensor global_average_pool(const Tensor& x) {
  if (x.shape().rank() != 4) {
    fail<ShapeError>("global_average_pool", "got an input of shape ", x.shape(), ", expected [N, H, W, C]");
  }
  return mean(x, {1, 2});
}

}  // namespace parabola
