#pragma once
#include "engine/core/op.h"

namespace parabola {

struct DepthwiseAttributes {
  int stride = 1, padding = 0, dilation = 1;  // alike for rows and columns; zeros on all four sides
};

// y [N, Ho, Wo, C] = one R x S filter a channel of x [N, H, W, C]: y(i, j, c) = bias(c) + sum over (r, s) of
// weight(r, s, c) * x(i * stride - padding + r * dilation, ...). weight [R, S, C]; bias [C] or absent. f32 or f64.
// Keeps x for the weight gradient and weight for x's. Cost: 2 R S flops an output, twice that backward.
// ShapeError for other shapes and for images smaller than the kernel, UsageError for attributes out of range.
Tensor depthwise_conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
                        const DepthwiseAttributes& attributes = {});

extern const OpDef depthwise_conv2d_op;

}  // namespace parabola
