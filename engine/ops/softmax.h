#pragma once
#include "engine/core/op.h"

namespace parabola {

// y = exp(x - max x) / sum exp(x - max x) over the last axis, each row its own; any rank from 1 on. Backward reads y:
// dx = y (dy - sum(dy y)). Recomputed by default. ShapeError for a scalar.
Tensor softmax(const Tensor& x);

// The logarithm of that, y = x - max x - log sum exp(x - max x), which stays finite where softmax is 0. Backward reads
// y: dx = dy - exp(y) sum(dy). Otherwise as softmax.
Tensor log_softmax(const Tensor& x);

extern const OpDef softmax_op, log_softmax_op;

}  // namespace parabola
