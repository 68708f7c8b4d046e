#include "engine/ops/mse.h"

#include "engine/core/error.h"
#include "engine/ops/checks.h"
#include "engine/ops/reduction.h"

namespace parabola {
namespace {

constexpr AxisMask all_axes = ~AxisMask{0};

template <class T>
void forward(const ForwardArgs& args) {
  const T *a = args.inputs[0].data<T>(), *b = args.inputs[1].data<T>();
  T* loss = args.outputs[0].data<T>();
  const Shape& shape = args.inputs[0].shape;
  const auto square = [=](int64_t i) { return (a[i] - b[i]) * (a[i] - b[i]); };
  Reduction(shape, all_axes).run<T>(reinterpret_cast<T*>(args.workspace), square, [&](int64_t, double sum) {
    *loss = static_cast<T>(sum / static_cast<double>(shape.elements()));
  });
}

template <class T>
void backward(const BackwardArgs& args) {
  const T *a = args.inputs[0].data<T>(), *b = args.inputs[1].data<T>();
  const int64_t count = args.inputs[0].shape.elements();
  for (const int operand : {0, 1}) {
    if (!args.wants(operand)) continue;
    const T scale = (operand == 0 ? 2 : -2) * *args.output_gradients[0].data<T>() / static_cast<T>(count);
    T* d = args.input_gradients[operand].data<T>();
    const bool accumulate = args.accumulates(operand);
    parallel_for(count, elementwise_grain, [=](int64_t begin, int64_t end) {
      store_or_add(d, accumulate, begin, end, [=](int64_t i) { return scale * (a[i] - b[i]); });
    });
  }
}

Layout layout(const Signature& s) {
  require_one_dtype("mse", s);
  if (s.shape(0) != s.shape(1) || s.shape(0).elements() == 0)
    fail<ShapeError>("mse", "got ", s.shape(0), " and ", s.shape(1), ", expected one shape, with elements");
  Layout layout{.outputs = {{Shape{}, s.dtype()}}};
  dispatch_any_float(s.dtype(), "mse", [&]<class T>() {
    layout.forward_workspace = Reduction(s.shape(0), all_axes).template workspace<T>();
  });
  return layout;
}

StepCost cost(const Signature& s) {
  const double n = static_cast<double>(s.shape(0).elements()), bytes = static_cast<double>(s.inputs[0].bytes());
  StepCost cost{{3 * n, 2 * bytes, 0}, {}};
  for (const int operand : {0, 1}) add_backward(cost, s, operand, {2 * n, 2 * bytes, bytes});
  return cost;
}

}  // namespace

const OpDef mse_op = {
    .name = "mse",
    .layout = layout,
    .cost = cost,
    .needs = [](const Signature&) { return Needs{.inputs = 3}; },
    .optional = 0,
    .cpu = {
        [](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, "mse", [&]<class T>() { forward<T>(a); }); },
        [](const BackwardArgs& a) { dispatch_float(a.inputs[0].dtype, "mse", [&]<class T>() { backward<T>(a); }); }},
};

Tensor mse(const Tensor& a, const Tensor& b) { return apply(mse_op, {a, b}); }

}  // namespace parabola
