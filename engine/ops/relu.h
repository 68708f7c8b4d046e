#pragma once
#include "engine/core/op.h"

namespace parabola {

// y = max(x, 0), any shape, f32 or f64. Keeps y for backward: dx = dy where y > 0, else 0 (0 at the kink, as PyTorch).
// Recomputed by default. Cost: one read, one write.
Tensor relu(const Tensor& x);

extern const OpDef relu_op;

}  // namespace parabola
