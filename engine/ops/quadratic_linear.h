#pragma once
#include "engine/ops/quadratic_types.h"

namespace parabola {

struct QuadraticLinearAttributes {
  double scale = 1;  // s, often alpha / J
};

// y [..., K] = weight x + bias + scale * (sum_j (a_j x)∘(b_j x) + square (x∘x)) of x [..., C]: a, b [J, K, C], rank J;
// weight and square [K, C], bias [K]; each may be absent (QuadraticTerm). f32 or f64. weight x + bias is complete
// before the rest is added and has the bits of linear(). Keeps x; variant 1 keeps a_j x and b_j x too, [rows, 2 J K],
// which spares their recomputation in backward (PAPER 4.1). Frozen inputs cost nothing; where only one of a and b is
// frozen, the products of both are kept. Saved by default. Cost: 2 C K flops a row for each of weight and square,
// 2 J C K for each of a and b, backward as PAPER 4. ShapeError, DTypeError, UsageError for a term of nothing.
Tensor quadratic_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const QuadraticTerm& term,
                        double scale = 1);
// The same for a term of a and b alone.
Tensor quadratic_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& a, const Tensor& b,
                        double scale = 1);

extern const OpDef quadratic_linear_op;

}  // namespace parabola
