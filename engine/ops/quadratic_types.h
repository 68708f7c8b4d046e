// The family of quadratic neurons, as quadratic_linear and quadratic_conv2d take it.
#pragma once
#include "engine/core/op.h"

namespace parabola {

// The second-order term q(x) = sum_j (a_j x)∘(b_j x) + square (x∘x) of an op that computes weight x + bias + scale * q:
// x stands for a neuron's n inputs (for a convolution, the patch under its kernel), ∘ for the elementwise product.
// Where b is absent it is a, whose products are computed once; where a is absent it is the identity: a_j x = x_j, J =
// n, so that b holds the n rows of each output's matrix. So the members (QuadraLib's types; PAPER 1.1) are
//
//   type 1     {.b = b}                    xᵀ W x            W of output k: row j is b[j, k]
//   type 2     {.square = w}               w·(x∘x)
//   type 3     {.a = a}                    (a·x)²
//   type 4     {a, b}                      (a·x)(b·x)        with a weight beside it: QuadraLib's own, V1 and V2
//   type 1&2   {.b = b, .square = w}       xᵀ W x + w·(x∘x)
//   type 2&4   {a, b, w}                   (a·x)(b·x) + w·(x∘x), Fan's; as QuadraLib draws it, w is b once more:
//                                          {a, b, reshape(b, weight.shape())}, whose gradients then add up
struct QuadraticTerm {
  Tensor a, b, square;
};

}  // namespace parabola
