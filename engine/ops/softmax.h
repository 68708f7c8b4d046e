#pragma once
#include "engine/core/op.h"

namespace parabola {

// y = exp(x - max x) / sum exp(x - max x) over the last axis, each row its own; any rank from 1 on. Backward reads y:
// dx = y (dy - sum(dy y)). Recomputed by default. ShapeError for a scalar.
Tensor softmax(const Tensor& x);

extern const OpDef softmax_op;

}  // namespace parabola
