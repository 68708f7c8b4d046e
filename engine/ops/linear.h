#pragma once
#include "engine/core/op.h"

namespace parabola {

// y [..., K] = x [..., C] weightᵀ + bias, with weight [K, C] and bias [K] (absent: none); f32 or f64. A 1x1 convolution
// of NHWC images is this op. Keeps x where the weight's gradient is wanted and the weight where x's is. Saved by
// default. Cost: 2 C K flops a row, the same again for each of the two gradients. ShapeError, DTypeError.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

extern const OpDef linear_op;

}  // namespace parabola
