#pragma once
#include <array>

#include "engine/ops/batch_norm.h"
#include "engine/ops/conv2d/geometry.h"

namespace parabola {

// One branch of QuadraLib's layer: weight [K, R, S, C], then [K] each: scale and shift of its BatchNorm and the running
// statistics, which training moves in place.
struct NormedBranch {
  Tensor weight, gamma, beta, running_mean, running_variance;
};

// What batch_norm may do with the product; the residual, [N, Ho, Wo, K], may be absent, or all of it.
struct OutputNorm {
  Tensor gamma, beta, running_mean, running_variance, residual;
};

struct NormedConvAttributes {
  int stride = 1, padding = 0;
  double momentum = 0.1, eps = 1e-5;  // as batch_norm's
  bool training = true;               // batch statistics, else the running ones
  BatchNormOptions output;            // of the output's norm, where there is one
};

// y = BN_a(A*x)∘BN_b(B*x) + BN_c(C*x) (PAPER 1.3), x [N, H, W, C], y [N, Ho, Wo, K], f32 or f64. Keeps x and, in
// training, the branches' means and inverse deviations; variant 1 keeps A*x, B*x and C*x too, which spares their
// recomputation in backward (PAPER 4.1). The running statistics move once, never in a replay. Saved by default. Cost: 6
// R S C K flops a pixel, backward as much for dx, for the weights, and (variant 0) for the branches. With an output
// norm y = batch_norm(that, ..., residual), with the bits of the two ops; in training in one op, which makes the
// product again from the branches rather than keep it, and keeps the norm's statistics and, with a residual and a relu,
// y. ShapeError, DTypeError, UsageError.
Tensor quadratic_conv2d_normed(const Tensor& x, const std::array<NormedBranch, 3>& branches,
                               const NormedConvAttributes& attributes, const OutputNorm& output = {});

extern const OpDef quadratic_conv2d_normed_op, quadratic_conv2d_normed_inference_op;

}  // namespace parabola
