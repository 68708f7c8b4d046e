// The kernels of mlp: sizes, what is wanted, and the CPU's two passes.
#pragma once
#include <algorithm>

#include "engine/ops/mlp.h"

namespace parabola::mlp_kernels {

enum : int { input_x, input_weight1, input_bias1, input_weight2, input_bias2, input_scale, input_residual };

// x is [rows, C], the hidden values are [rows, H], y is [rows, K].
struct Sizes {
  int64_t rows, C, H, K;
  // From a signature or the arguments of a kernel, whose shapes are checked.
  template <class From>
  explicit Sizes(const From& from) {
    const auto shape = [&](int i) -> const Shape& { return from.inputs[static_cast<size_t>(i)].shape; };
    rows = shape(input_x).product(0, shape(input_x).rank() - 1), C = shape(input_x).back();
    H = shape(input_weight1)[0], K = shape(input_weight2)[0];
  }
};

// Whose gradients are wanted; hidden: that of the hidden values before gelu, through which the first three go; product:
// dyᵀ h, of which that of the second layer's weight and a part of the scale's are made.
struct Wanted {
  bool x, weight1, bias1, weight2, bias2, scale, residual, hidden, product;
  template <class Wants>
  explicit Wanted(const Wants& wants)
      : x(wants(input_x)),
        weight1(wants(input_weight1)),
        bias1(wants(input_bias1)),
        weight2(wants(input_weight2)),
        bias2(wants(input_bias2)),
        scale(wants(input_scale)),
        residual(wants(input_residual)),
        hidden(x || weight1 || bias1),
        product(weight2 || scale) {}
  bool any() const { return hidden || product; }
  bool sums() const { return weight1 || bias1 || product; }             // over the rows
  bool recomputes(int variant) const { return variant == 0 && any(); }  // the hidden values before gelu
};
inline Wanted wanted_of(const Signature& s) {
  return Wanted([&](int i) { return s.wants_gradient(i); });
}
inline Wanted wanted_of(const BackwardArgs& args) {
  return Wanted([&](int i) { return static_cast<size_t>(i) < args.input_gradients.size() && args.wants(i); });
}

// Pointers to the inputs; null where one is absent or, in backward, not needed.
template <class T>
struct Inputs {
  const T *x, *weight1, *bias1, *weight2, *bias2, *scale, *residual;
  template <class Args>
  explicit Inputs(const Args& args) {
    const auto input = [&](size_t i) { return i < args.inputs.size() ? args.inputs[i].template data<T>() : nullptr; };
    x = input(input_x), weight1 = input(input_weight1), bias1 = input(input_bias1);
    weight2 = input(input_weight2), bias2 = input(input_bias2), scale = input(input_scale);
    residual = input(input_residual);
  }
};

size_t forward_workspace(const Sizes& sizes, DType dtype);
size_t backward_workspace(const Sizes& sizes, DType dtype, int variant, const Wanted& wanted, bool scaled);

template <class T>
void forward(const ForwardArgs& args);
template <class T>
void backward(const BackwardArgs& args);

}  // namespace parabola::mlp_kernels
