#pragma once
#include "engine/core/op.h"

namespace parabola {

// y = gamma (x - mean) / sqrt(variance + eps) + beta, mean and biased variance over the last axis, C, each row its own;
// gamma and beta are [C]. Keeps both statistics of each row; backward reads x, them and gamma. Recomputed by default; a
// replay whose statistics were kept only normalises. ShapeError, DTypeError.
// Ba, Kiros, Hinton, "Layer normalization", 2016.
Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps);

struct LayerNormAttributes {
  double eps = 1e-6;
};
extern const OpDef layer_norm_op;

}  // namespace parabola
