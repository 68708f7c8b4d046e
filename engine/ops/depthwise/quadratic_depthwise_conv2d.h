#pragma once
#include "engine/core/op.h"

namespace parabola {

struct QuadraticDepthwiseAttributes {
  int stride = 1, padding = 0, dilation = 1;                                // of the linear kernel
  int quadratic_stride = 1, quadratic_padding = 0, quadratic_dilation = 1;  // of the factors
  double scale = 1;                                                         // s, often alpha / J
};

// y = C x + bias + s * sum_j (A_j x)∘(B_j x), depthwise convolutions of x [N, H, W, C] (PAPER 2.2). weight (C) [R, S,
// C] or absent; bias [C] or absent; a, b [J, Ra, Sa, C], rank J; both geometries must give the same Ho x Wo. f32 or
// f64. One pass over x; a_j and b_j stay in registers. Keeps x; variant 1 keeps a_j and b_j too, which spares their
// recomputation in backward (PAPER 4.1). Frozen inputs cost nothing. C x + bias is complete before the product is added
// and has the bits of depthwise_conv2d. Cost: 2 (R S + 2 J Ra Sa) flops an output, backward as PAPER 4.
// ShapeError for other shapes, UsageError for attributes out of range.
Tensor quadratic_depthwise_conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& a,
                                  const Tensor& b, const QuadraticDepthwiseAttributes& attributes = {});

extern const OpDef quadratic_depthwise_conv2d_op;

}  // namespace parabola
