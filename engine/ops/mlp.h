#pragma once
#include "engine/core/op.h"

namespace parabola {

// y [..., K] = gelu(x [..., C] weight1ᵀ + bias1) weight2ᵀ + bias2 with weight1 [H, C], bias1 [H] (absent: none),
// weight2 [K, H] and bias2 [K] (absent: none); f32 or f64: the two-layer perceptron of ConvNeXt's blocks and
// transformers. On the CPU y has the bits of linear, gelu and linear, but gelu's H values a row exist for a tile of
// rows at a time only. Keeps x and u = x weight1ᵀ + bias1; variant 0, which `blocks` and tight budgets take, keeps x
// only, and backward computes u again. Saved by default. Cost: 2 H (C + K) flops a row and gelu's, twice that for the
// gradients, and what is computed again. ShapeError, DTypeError. Liu and others, "A ConvNet for the 2020s", 2022.
Tensor mlp(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2,
           const Tensor& bias2 = {});

extern const OpDef mlp_op;

}  // namespace parabola
