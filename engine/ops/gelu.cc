#include "engine/ops/gelu.h"

#include "engine/core/thread_pool.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/normal_distribution.h"

namespace parabola {
namespace {

template <class T>
void forward(const ForwardArgs& args) {
  const T* x = args.inputs[0].data<T>();
  T* y = args.outputs[0].data<T>();
  parallel_for(args.inputs[0].shape.elements(), elementwise_grain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = GeluAt<T>(x[i]).value;
  });
}

template <class T>
void backward(const BackwardArgs& args) {
  const T *x = args.inputs[0].data<T>(), *dy = args.output_gradients[0].data<T>();
  T* dx = args.input_gradients[0].data<T>();
  const bool accumulate = args.accumulates(0);
  parallel_for(args.inputs[0].shape.elements(), elementwise_grain, [=](int64_t begin, int64_t end) {
    store_or_add(dx, accumulate, begin, end, [=](int64_t i) { return dy[i] * GeluAt<T>(x[i]).slope; });
  });
}

}  // namespace

const OpDef gelu_op = {
    .name = "gelu",
    .layout = same_as_input,
    .cost = [](const Signature& s) { return elementwise_cost(s, gelu_flops, gelu_gradient_flops); },
    .needs = [](const Signature&) { return Needs{.inputs = 1}; },
    .policy = Policy::recompute,
    .gradient_in_place = 0,
    .cpu = {[](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, "gelu", [&]<class T>() { forward<T>(a); }); },
            [](const BackwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "gelu", [&]<class T>() { backward<T>(a); });
            }},
};

Tensor gelu(const Tensor& x) { return apply(gelu_op, {x}); }

}  // namespace parabola
