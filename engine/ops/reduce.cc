#include "engine/ops/reduce.h"

#include "engine/core/error.h"
#include "engine/ops/reduction.h"
#include "engine/ops/walk.h"

namespace parabola {
namespace {

// What a sum over x is multiplied by. A number, so that one kernel serves both ops.
double scale_of(bool is_mean, const Shape& x, const Attributes& attributes) {
  const Shape y = reduced_shape(x, attributes.get<ReduceAttributes>().axes, false);
  return is_mean ? static_cast<double>(y.elements()) / static_cast<double>(x.elements()) : 1;
}

template <class T>
void forward(const ForwardArgs& args, double scale) {
  const Values<T> x{args.inputs[0].data<T>()};
  T* y = args.outputs[0].data<T>();
  Reduction(args.inputs[0].shape, args.attributes.get<ReduceAttributes>().axes)
      .run<T>(reinterpret_cast<T*>(args.workspace), x,
              [=](int64_t i, double sum) { y[i] = static_cast<T>(scale * sum); });
}

template <class T>
void backward(const BackwardArgs& args, double scale) {
  const Shape& shape = args.input_gradients[0].shape;
  const Shape kept = reduced_shape(shape, args.attributes.get<ReduceAttributes>().axes, true);
  const T *dy = args.output_gradients[0].data<T>(), factor = static_cast<T>(scale);
  T* dx = args.input_gradients[0].data<T>();
  const bool accumulate = args.accumulates(0);
  const Walk walk(shape, broadcast_strides(kept, shape), strides_of(shape));
  const int64_t step = walk.step_a();
  walk.each_row([=](int64_t i, int64_t at, int64_t, int64_t count) {
    for (int64_t k = 0; k < count; ++k) {
      const T d = factor * dy[at + k * step];
      dx[i + k] = accumulate ? dx[i + k] + d : d;
    }
  });
}

template <bool is_mean>
constexpr const char* name = is_mean ? "mean" : "sum";

template <bool is_mean>
Layout layout(const Signature& s) {
  const auto& how = s.attributes.get<ReduceAttributes>();
  Layout result{.outputs = {{reduced_shape(s.shape(0), how.axes, how.keep), s.dtype()}}};
  dispatch_any_float(s.dtype(), name<is_mean>, [&]<class T>() {
    result.forward_workspace = Reduction(s.shape(0), how.axes).template workspace<T>();
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
                const double scale = scale_of(is_mean, a.inputs[0].shape, a.attributes);
                dispatch_float(a.inputs[0].dtype, name<is_mean>, [&]<class T>() { forward<T>(a, scale); });
              },
              [](const BackwardArgs& a) {
                const double scale = scale_of(is_mean, a.input_gradients[0].shape, a.attributes);
                dispatch_float(a.output_gradients[0].dtype, name<is_mean>, [&]<class T>() { backward<T>(a, scale); });
              }},
  };
}

}  // namespace

const OpDef sum_op = define<false>();
const OpDef mean_op = define<true>();

Tensor sum(const Tensor& x, const std::vector<int>& axes, bool keep) {
  return apply(sum_op, {x}, reduce_attributes("sum", x, axes, keep));
}

Tensor mean(const Tensor& x, const std::vector<int>& axes, bool keep) {
  return apply(mean_op, {x}, reduce_attributes("mean", x, axes, keep));
}

Tensor global_average_pool(const Tensor& x) {
  if (x.shape().rank() != 4) {
    fail<ShapeError>("global_average_pool", "got an input of shape ", x.shape(), ", expected [N, H, W, C]");
  }
  return mean(x, {1, 2});
}

}  // namespace parabola
