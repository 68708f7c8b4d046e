#pragma once
#include "engine/core/op.h"

namespace parabola {

struct BatchedMatmulAttributes {
  bool transpose_a = false, transpose_b = false;
};

// y [..., M, K] = op(a) op(b), as many products side by side as the leading axes say, which a and b have in common;
// op(a) [..., M, C] and op(b) [..., C, K] are what is given, or with its last two axes swapped. f32 or f64. Keeps a
// where b's gradient is wanted and b where a's is. Saved by default. Cost: 2 M C K flops a product, the same again for
// each gradient. ShapeError, DTypeError. One b for all of a: matmul (matmul.h).
Tensor batched_matmul(const Tensor& a, const Tensor& b, const BatchedMatmulAttributes& attributes = {});

extern const OpDef batched_matmul_op;

}  // namespace parabola
