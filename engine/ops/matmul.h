#pragma once
#include "engine/core/op.h"

namespace parabola {

// y [..., M, K] = a [..., M, C] b [C, K], the matrices of a multiplied by one b; f32 or f64. Keeps a where b's gradient
// is wanted and b where a's is. Saved by default. Cost: 2 C K flops a row, the same again for each gradient.
// ShapeError, DTypeError. A b with leading axes of its own: batched_matmul.
Tensor matmul(const Tensor& a, const Tensor& b);

extern const OpDef matmul_op;

}  // namespace parabola
