#pragma once
#include "engine/ops/quadratic_conv2d/factors.h"

namespace parabola {

// y [N, Ho, Wo, K] = weight*x + bias + scale * sum_j (a_j*x)∘(b_j*x), convolutions of x [N, H, W, C]: weight [K, R, S,
// C / groups] and bias [K] may be absent; a, b [J, K, Ra, Sa, C / groups], rank J. f32 or f64. weight*x + bias is
// complete before the product is added and has the bits of conv2d. Keeps x; variant 1 keeps a*x and b*x too, [N, Ho,
// Wo, 2 J K], which spares their recomputation in backward (PAPER 4.1). Frozen inputs cost nothing, but a and b go
// together: freezing one of them saves no work. Saved by default. Cost: 2 K C / groups (R S + 2 J Ra Sa) flops a pixel,
// backward as PAPER 4. ShapeError, DTypeError, UsageError for nonsensical attributes.
Tensor quadratic_conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& a, const Tensor& b,
                        const QuadraticConvAttributes& attributes = {});

extern const OpDef quadratic_conv2d_op;

}  // namespace parabola
