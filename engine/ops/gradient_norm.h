#pragma once
#include <span>

#include "engine/core/op.h"

namespace parabola {

// The global L2 norm of all gradients, a scalar of their dtype, added up in double in a fixed order. Absent ones are
// left out; UsageError where none is left.
Tensor gradient_norm(std::span<const Tensor> gradients);

extern const OpDef gradient_norm_op;

}  // namespace parabola
