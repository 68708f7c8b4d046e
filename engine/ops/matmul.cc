#include "engine/ops/matmul.h"

#include "engine/ops/batched_matmul.h"
#include "engine/ops/dense.h"

namespace parabola {

const OpDef matmul_op = {
    .name = matmul_dense.name,
    .layout = [](const Signature& s) { return matmul_dense.layout(s); },
    .cost = [](const Signature& s) { return matmul_dense.cost(s); },
    .needs = [](const Signature& s) { return matmul_dense.needs(s); },
    .cpu = {[](const ForwardArgs& args) { matmul_dense.forward(args); },
            [](const BackwardArgs& args) { matmul_dense.backward(args); }},
};

Tensor matmul(const Tensor& a, const Tensor& b) {
  return b.shape().rank() > 2 ? batched_matmul(a, b) : apply(matmul_op, {a, b});
}

}  // namespace parabola
