#pragma once
#include "engine/core/op.h"

namespace parabola {

// y = x Phi(x) with the normal distribution's Phi(x) = (1 + erf(x / sqrt 2)) / 2: the exact form, not the one with
// tanh. In f32 Phi is off by at most 3e-7. Any shape. Backward reads x: dx = dy (Phi(x) + x phi(x)). Recomputed by
// default. Hendrycks, Gimpel, "Gaussian error linear units", 2016.
Tensor gelu(const Tensor& x);

extern const OpDef gelu_op;

}  // namespace parabola
