#include "engine/ops/relu.h"

#include "engine/core/thread_pool.h"
#include "engine/ops/elementwise.h"

namespace parabola {
namespace {

template <class T>
void forward(const ForwardArgs& args) {
  const T* x = args.inputs[0].data<T>();
  T* y = args.outputs[0].data<T>();
  parallel_for(args.inputs[0].shape.elements(), elementwise_grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = x[i] > 0 ? x[i] : T(0);
  });
}

template <class T>
void backward(const BackwardArgs& args) {
  const T *y = args.outputs[0].data<T>(), *dy = args.output_gradients[0].data<T>();
  T* dx = args.input_gradients[0].data<T>();
  const bool accumulate = args.accumulates(0);
  parallel_for(args.outputs[0].shape.elements(), elementwise_grain, [=](int64_t begin, int64_t end) {
    store_or_add(dx, accumulate, begin, end, [=](int64_t i) { return y[i] > 0 ? dy[i] : T(0); });
  });
}

}  // namespace

const OpDef relu_op = {
    .name = "relu",
    .layout = same_as_input,
    .cost = [](const Signature& s) { return elementwise_cost(s, 1, 1); },
    .needs = [](const Signature&) { return Needs{.outputs = 1}; },
    .policy = Policy::recompute,
    .gradient_in_place = 0,
    .cpu = {[](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, "relu", [&]<class T>() { forward<T>(a); }); },
            [](const BackwardArgs& a) {
              dispatch_float(a.outputs[0].dtype, "relu", [&]<class T>() { backward<T>(a); });
            }},
};

Tensor relu(const Tensor& x) { return apply(relu_op, {x}); }

}  // namespace parabola
