#include "engine/ops/linear.h"

#include "engine/ops/dense.h"

namespace parabola {

const OpDef linear_op = {
    .name = linear_dense.name,
    .layout = [](const Signature& s) { return linear_dense.layout(s); },
    .cost = [](const Signature& s) { return linear_dense.cost(s); },
    .needs = [](const Signature& s) { return linear_dense.needs(s); },
    .cpu = {[](const ForwardArgs& args) { linear_dense.forward(args); },
            [](const BackwardArgs& args) { linear_dense.backward(args); }},
};

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) { return apply(linear_op, {x, weight, bias}); }

}  // namespace parabola
