#pragma once
#include "engine/core/op.h"

namespace parabola {

struct QuadraticLinearAttributes {
  double scale = 1;  // s, often alpha / J
};

// y [..., K] = scale * sum_j (a_j x)∘(b_j x) + weight x + bias of x [..., C]: a, b [J, K, C], rank J; weight [K, C] and
// bias [K] may be absent. f32 or f64. weight x + bias is complete before the product is added and has the bits of
// linear(). Keeps x; variant 1 keeps a_j x and b_j x too, [rows, J K] each, which spares their recomputation in
// backward (PAPER 4.1). Frozen inputs cost nothing. Saved by default. Cost: 2 (1 + 2 J) C K flops a row, backward as
// PAPER 4. ShapeError, DTypeError.
Tensor quadratic_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& a, const Tensor& b,
                        double scale = 1);

extern const OpDef quadratic_linear_op;

}  // namespace parabola
