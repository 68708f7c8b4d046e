#include "engine/ops/unary.h"

#include "engine/core/error.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/unary_functions.h"

namespace parabola {
namespace {

using unary::Reads;

template <class F, class T>
void forward(const ForwardArgs& args) {
  const F f = unary::function_of<F>(args.attributes);
  const T* x = args.inputs[0].data<T>();
  T* y = args.outputs[0].data<T>();
  parallel_for(args.inputs[0].shape.elements(), elementwise_grain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = f.value(x[i]);
  });
}

template <class F, class T>
void backward(const BackwardArgs& args) {
  const F f = unary::function_of<F>(args.attributes);
  const T *read = F::reads == Reads::y ? args.outputs[0].data<T>() : args.inputs[0].data<T>(),
          *dy = args.output_gradients[0].data<T>();
  T* dx = args.input_gradients[0].data<T>();
  const bool accumulate = args.accumulates(0);
  parallel_for(args.inputs[0].shape.elements(), elementwise_grain, [=](int64_t begin, int64_t end) {
    store_or_add(dx, accumulate, begin, end,
                 [=](int64_t i) { return f.gradient(F::reads == Reads::nothing ? T(0) : read[i], dy[i]); });
  });
}

template <class F>
constexpr OpDef define() {
  return {
      .name = F::name,
      .layout = same_as_input,
      .cost = [](const Signature& s) { return elementwise_cost(s, F::flops[0], F::flops[1]); },
      .needs = [](const Signature&) { return Needs{.inputs = F::reads == Reads::x, .outputs = F::reads == Reads::y}; },
      .policy = Policy::recompute,
      .gradient_in_place = 0,
      .cpu = {[](const ForwardArgs& a) {
                dispatch_float(a.inputs[0].dtype, F::name, [&]<class T>() { forward<F, T>(a); });
              },
              [](const BackwardArgs& a) {
                dispatch_float(a.output_gradients[0].dtype, F::name, [&]<class T>() { backward<F, T>(a); });
              }},
  };
}

}  // namespace

const OpDef neg_op = define<unary::Neg>(), exp_op = define<unary::Exp>(), log_op = define<unary::Log>(),
            sqrt_op = define<unary::Sqrt>(), square_op = define<unary::Square>(), abs_op = define<unary::Abs>(),
            clamp_op = define<unary::Clamp>(), relu6_op = define<unary::Relu6>(), sigmoid_op = define<unary::Sigmoid>(),
            tanh_op = define<unary::Tanh>(), silu_op = define<unary::Silu>(), gelu_tanh_op = define<unary::GeluTanh>();

Tensor neg(const Tensor& x) { return apply(neg_op, {x}); }
Tensor exp(const Tensor& x) { return apply(exp_op, {x}); }
Tensor log(const Tensor& x) { return apply(log_op, {x}); }
Tensor sqrt(const Tensor& x) { return apply(sqrt_op, {x}); }
Tensor square(const Tensor& x) { return apply(square_op, {x}); }
Tensor abs(const Tensor& x) { return apply(abs_op, {x}); }
Tensor relu6(const Tensor& x) { return apply(relu6_op, {x}); }
Tensor sigmoid(const Tensor& x) { return apply(sigmoid_op, {x}); }
Tensor tanh(const Tensor& x) { return apply(tanh_op, {x}); }
Tensor silu(const Tensor& x) { return apply(silu_op, {x}); }
Tensor gelu_tanh(const Tensor& x) { return apply(gelu_tanh_op, {x}); }

Tensor clamp(const Tensor& x, double low, double high) {
  if (!(low <= high)) fail<UsageError>("clamp", "got bounds ", low, " and ", high, ", expected low <= high");
  return apply(clamp_op, {x}, ClampAttributes{low, high});
}

}  // namespace parabola
