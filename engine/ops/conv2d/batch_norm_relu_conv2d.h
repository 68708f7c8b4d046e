#pragma once
#include "engine/ops/conv2d/geometry.h"

namespace parabola {

struct BatchNormReluConv2dAttributes {
  double momentum = 0.1, eps = 1e-5;  // as batch_norm's
  ConvAttributes conv;
  bool returns_normed = false;  // a second result; set by the function below
};

// y = conv2d(max(0, batch_norm(x) + residual), weight) with the batch's statistics, in training, with the bits of the
// ops one by one: what stands between the convolutions of a residual block, or of two, whose normalised values are then
// kept nowhere. x [N, H, W, C], weight [K, R, S, C / groups], the residual as x or absent, the other arguments [C], y
// [N, Ho, Wo, K], f32 or f64. The running statistics move once, never in a replay. Keeps x, the residual, the
// statistics, gamma, beta and the weight. Saved by default. Cost: as conv2d's, and 9 flops a value of x, 18 backward,
// or 10 and 20 with a residual. A convolution by Winograd's algorithm normalises while it reads; others, and CUDA's,
// from scratch of x's size. `normed` gets what the convolution reads, for whatever else does; no backward of this op
// asks for it. ShapeError, DTypeError, UsageError. That norms are cheaper made again than kept:
// Pleiss and others, "Memory-efficient implementation of DenseNets", 2017.
Tensor batch_norm_relu_conv2d(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                              const Tensor& running_variance, const Tensor& weight,
                              BatchNormReluConv2dAttributes attributes = {}, const Tensor& residual = {},
                              Tensor* normed = nullptr);

extern const OpDef batch_norm_relu_conv2d_op;  // takes the residual before the weight, as batch_norm's last

}  // namespace parabola
