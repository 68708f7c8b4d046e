#pragma once
#include "engine/core/op.h"

namespace parabola {

// y [..., L, E] = softmax(q kᵀ / sqrt(D)) v for queries q [..., L, D], keys k [..., S, D] and values v [..., S, E] with
// the same leading axes (batch, heads); softmax over the S keys. causal: query i sees keys 0 to i only. f32 or f64.
// Keeps q, k, v and one number a query, l = the log of the sum of exp(scores); backward finds probabilities again as
// exp(score - l), some rows at a time, so that no [L, S] matrix is ever there. Saved by default. Cost: 2 (D + E) flops
// a query and key; backward, which computes scores again, 2 (3 D + 2 E). ShapeError, DTypeError. Dao et al.,
// "FlashAttention: fast and memory-efficient exact attention with IO-awareness", 2022.
Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v, bool causal = false);

struct AttentionAttributes {
  bool causal = false;
};
extern const OpDef scaled_dot_product_attention_op;

}  // namespace parabola
