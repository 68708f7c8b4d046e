#pragma once
#include "engine/core/op.h"

namespace parabola {

// y = x Phi(x) with the normal distribution's Phi(x) = (1 + erf(x / sqrt 2)) / 2: the exact form, not the one with
// tanh. In f32 y is off by at most 1.1e-7 |x|: two units in the last place of Phi where that is next to 1. Any shape.
// Backward reads x: dx = dy (Phi(x) + x phi(x)). Recomputed by default.
// Hendrycks, Gimpel, "Gaussian error linear units", 2016.
Tensor gelu(const Tensor& x);

extern const OpDef gelu_op;

}  // namespace parabola
