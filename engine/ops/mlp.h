#pragma once
#include "engine/core/op.h"

namespace parabola {

// y [..., K] = residual + scale ∘ (h weight2ᵀ + bias2), h = gelu(u), u = x [..., C] weight1ᵀ + bias1: the two-layer
// perceptron of ConvNeXt's blocks and transformers, to the end of its block. weight1 [H, C], weight2 [K, H]; bias1 [H],
// bias2 [K], scale [K] and residual, of y's shape, may be absent; f32 or f64. On the CPU y has the bits of the ops one
// by one, but h exists for a tile of rows at a time only, and what is multiplied by scale nowhere: its gradient is the
// row sums of weight2 ∘ (dyᵀ h), and dweight2 = scale ∘ (dyᵀ h). Keeps x and u; variant 0, which `blocks` and tight
// budgets take, keeps x only, and backward computes u again. Saved by default. Cost: 2 H (C + K) flops a row and
// gelu's, twice that for the gradients, and what is computed again. ShapeError, DTypeError.
// Liu and others, "A ConvNet for the 2020s", 2022.
Tensor mlp(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2, const Tensor& bias2 = {},
           const Tensor& scale = {}, const Tensor& residual = {});

extern const OpDef mlp_op;

}  // namespace parabola
