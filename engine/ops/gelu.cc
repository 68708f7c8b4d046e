#include "engine/ops/gelu.h"

#include "engine/core/thread_pool.h"
#include "engine/ops/gelu_at.h"

namespace parabola {
namespace {

template <class T>
void forward(const ForwardArgs& args) {
  const T* x = args.inputs[0].data<T>();
  T* y = args.outputs[0].data<T>();
  parallel_for(args.inputs[0].shape.elements(), elementwise_grain, [=](int64_t begin, int64_t end) {
    each_gelu(end - begin, x + begin, [to = y + begin](auto where, const auto& gelu) { where.store(to, gelu.value); });
  });
}

template <class T>
void backward(const BackwardArgs& args) {
  const T *x = args.inputs[0].data<T>(), *dy = args.output_gradients[0].data<T>();
  T* dx = args.input_gradients[0].data<T>();
  const bool accumulate = args.accumulates(0);
  parallel_for(args.inputs[0].shape.elements(), elementwise_grain, [=](int64_t begin, int64_t end) {
    const auto each = [&](const auto& store) {
      each_gelu(end - begin, x + begin,
                [=](auto where, const auto& gelu) { store(where, where.load(dy + begin) * gelu.slope); });
    };
    if (accumulate)
      each([to = dx + begin](auto where, auto d) { where.store(to, where.load(to) + d); });
    else
      each([to = dx + begin](auto where, auto d) { where.store(to, d); });
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
