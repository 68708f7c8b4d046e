#pragma once
#include "engine/ops/quadratic_conv2d/factors.h"

namespace parabola {

// y [N, Ho, Wo, K] = weight*x + bias + scale * P ((u*x)∘(v*x)): Q products shared by all outputs (PAPER 2.3(a)). weight
// [K, R, S, C / groups] and bias [K] may be absent; u, v [Q, Ra, Sa, C], which see all channels
// (attributes.quadratic.groups has no effect); p [K, Q]. f32 or f64. weight*x + bias is complete before the term is
// added and has the bits of conv2d. Keeps x; variant 1 keeps u*x and v*x too, [N, Ho, Wo, 2 Q]. A frozen weight is read
// for dx alone; u and v go together: freezing one of them saves no work. Saved by default. Cost: 2 (K R S C / groups +
// 2 Q Ra Sa C + K Q) flops a pixel, backward as PAPER 4 with dp = scale dyᵀ z, dz = scale dy p for z = (u*x)∘(v*x).
// ShapeError, DTypeError, UsageError.
Tensor quadratic_conv2d_shared(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& u,
                               const Tensor& v, const Tensor& p, const QuadraticConvAttributes& attributes = {});

extern const OpDef quadratic_conv2d_shared_op;

}  // namespace parabola
