// What linear and matmul share: y [..., K] = x [..., C] op(w) + bias.
#pragma once
#include "engine/blas/gemm.h"
#include "engine/core/op.h"

namespace parabola {

// The product's sizes: x is [rows, inputs], y is [rows, outputs].
struct DenseSizes {
  int64_t rows, inputs, outputs;
};

// One op of the pair: w lies as [K, C] and is multiplied transposed (linear), or as [C, K] (matmul).
struct DenseOp {
  std::string_view name;
  bool transposed;

  DenseSizes sizes(const Shape& x, const Shape& w) const {
    return {x.product(0, x.rank() - 1), x.back(), w[transposed ? 0 : 1]};
  }
  // op(w) [C, K]; or its transpose, for the gradient of x.
  template <class T>
  Factor<T> weight(const TensorView& w, bool transpose = false) const {
    return {w.data<T>(), w.shape.back(), transposed != transpose};
  }

  // ShapeError where x, w and bias [K] do not fit, DTypeError where their types differ; both name the op.
  Layout layout(const Signature& signature) const;
  StepCost cost(const Signature& signature) const;
  Needs needs(const Signature& signature) const;  // x for the weight's gradient, the weight for x's
  void forward(const ForwardArgs& args) const;    // on the CPU; dense.cu has CUDA's
  void backward(const BackwardArgs& args) const;  // on the CPU
};

inline constexpr DenseOp linear_dense{.name = "linear", .transposed = true};
inline constexpr DenseOp matmul_dense{.name = "matmul", .transposed = false};

}  // namespace parabola
