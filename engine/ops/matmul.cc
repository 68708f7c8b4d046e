#include "engine/ops/matmul.h"

#include "engine/ops/dense.h"

namespace parabola {
namespace {
constexpr DenseOp dense{.name = "matmul", .transposed = false};
}

const OpDef matmul_op = {
    .name = dense.name,
    .layout = [](const Signature& s) { return dense.layout(s); },
    .cost = [](const Signature& s) { return dense.cost(s); },
    .needs = [](const Signature& s) { return dense.needs(s); },
    .cpu = {[](const ForwardArgs& args) { dense.forward(args); },
            [](const BackwardArgs& args) { dense.backward(args); }},
};

Tensor matmul(const Tensor& a, const Tensor& b) { return apply(matmul_op, {a, b}); }

}  // namespace parabola
