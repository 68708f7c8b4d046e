#pragma once
#include "engine/ops/quadratic_conv2d/factors.h"
#include "engine/ops/quadratic_types.h"

namespace parabola {

// y [N, Ho, Wo, K] = weight*x + bias + scale * (sum_j (a_j*x)∘(b_j*x) + square*(x∘x)), convolutions of x [N, H, W, C]:
// weight [K, R, S, C / groups], bias [K]; a, b [J, K, Ra, Sa, C / groups], rank J; square [K, Ra, Sa, C / groups]; each
// may be absent (QuadraticTerm; without a, J = Ra Sa C / groups, and a_j*x is the patch's j-th value in that order).
// f32 or f64. weight*x + bias is complete before the rest is added and has the bits of conv2d. Keeps x; variant 1 keeps
// a*x and b*x too, [N, Ho, Wo, 2 J K], which spares their recomputation in backward (PAPER 4.1). Frozen inputs cost
// nothing, but a and b go together: freezing one of them saves no work. Saved by default. Cost: 2 K C / groups (R S + 2
// J Ra Sa) flops a pixel, half the latter of one factor, 2 K C / groups Ra Sa for the square; backward as PAPER 4.
// ShapeError, DTypeError, UsageError for nonsensical attributes and a term of nothing.
Tensor quadratic_conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const QuadraticTerm& term,
                        const QuadraticConvAttributes& attributes = {});
// The same for a term of a and b alone.
Tensor quadratic_conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& a, const Tensor& b,
                        const QuadraticConvAttributes& attributes = {});

extern const OpDef quadratic_conv2d_op;

}  // namespace parabola
