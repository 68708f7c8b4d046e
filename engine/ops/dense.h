// What linear and matmul share: y [..., K] = x [..., C] op(w) + bias.
#pragma once
#include "engine/core/op.h"

namespace parabola {

// One op of the pair: w lies as [K, C] and is multiplied transposed (linear), or as [C, K] (matmul).
struct DenseOp {
  std::string_view name;
  bool transposed;

  // ShapeError where x, w and bias [K] do not fit, DTypeError where their types differ; both name the op.
  Layout layout(const Signature& signature) const;
  StepCost cost(const Signature& signature) const;
  Needs needs(const Signature& signature) const;  // x for the weight's gradient, the weight for x's
  void forward(const ForwardArgs& args) const;
  void backward(const BackwardArgs& args) const;
};

}  // namespace parabola
