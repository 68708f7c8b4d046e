#pragma once
#include "engine/ops/conv2d/geometry.h"

namespace parabola {

// y [N, Ho, Wo, K] = x [N, H, W, C] * weight [K, R, S, C / groups] + bias [K] (absent: none), zeros around the image;
// Ho = (H + 2 padding - dilation (R - 1) - 1) / stride + 1, rounded down. f32 or f64. Keeps x where the weight's
// gradient is wanted and the weight where x's is. Saved by default. Cost: 2 K R S C / groups flops an output pixel, the
// same again for each of the two gradients. A 3x3 kernel of stride 1 may go by Winograd's algorithm
// (winograd.h): a quarter of the multiply-adds, rounding errors about 3 times as large, and an infinity or NaN reaches
// all 4x4 outputs of a window that reads it. ShapeError, DTypeError, UsageError for nonsensical attributes.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const ConvAttributes& attributes = {});

extern const OpDef conv2d_op;

}  // namespace parabola
