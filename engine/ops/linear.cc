#include "engine/ops/linear.h"

#include "engine/ops/dense.h"

namespace parabola {
namespace {
constexpr DenseOp dense{.name = "linear", .transposed = true};
}

const OpDef linear_op = {
    .name = dense.name,
    .layout = [](const Signature& s) { return dense.layout(s); },
    .cost = [](const Signature& s) { return dense.cost(s); },
    .needs = [](const Signature& s) { return dense.needs(s); },
    .cpu = {[](const ForwardArgs& args) { dense.forward(args); },
            [](const BackwardArgs& args) { dense.backward(args); }},
};

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) { return apply(linear_op, {x, weight, bias}); }

}  // namespace parabola
