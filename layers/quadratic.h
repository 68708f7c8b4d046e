// Layers of networks that are quadratic from scratch. Formulas: docs/method.md.
#pragma once
#include "engine/ops/conv2d/geometry.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d_normed.h"
#include "engine/ops/quadratic_types.h"
#include "layers/basic.h"

namespace parabola {

// QuadraLib's types of quadratic neurons, with x the n inputs of one (for a convolution, its patch):
//
//   type1         xᵀ W x                      type12         xᵀ W x + w·(x∘x)
//   type2         w·(x∘x)                     type24         (a·x)(b·x) + w·(x∘x), Fan's with a weight of its own
//   type3         (a·x)²                      type24_shared  (a·x)(b·x) + b·(x∘x), as QuadraLib draws it
//   type4         (a·x)(b·x); with the linear term beside it, QuadraLib's own layers and V1's
enum class QuadraticType : uint8_t { type1, type2, type3, type4, type12, type24, type24_shared };

// What a layer of such neurons has; `linear` is the first-order term c·x.
struct QuadraticOptions {
  QuadraticType type = QuadraticType::type4;
  bool linear = true, bias = true;
};

// Its weights "a.weight", "b.weight", "square.weight" (w), "c.weight", "c.bias", as far as it has them; W is b, of
// which files hold n rows an output, one for each value of x in the engine's order (kernel row, column, channel). They
// start as PyTorch's do, with a fan-in of n² for W.
class QuadraticLayer : public Module {
 protected:
  void add_weights(const QuadraticOptions& options, const Shape& kernel);  // [out, ...]: of one weight a neuron
  QuadraticTerm term() const;
  Tensor a_, b_, square_, c_, bias_;

 private:
  Shape shared_;  // of b as the weight of x∘x too; of rank 0: it is not
};

// Over the last axis; every weight [out, in], W [in, out, in].
class QuadraticLinear final : public QuadraticLayer {
 public:
  QuadraticLinear(int64_t in, int64_t out, const QuadraticOptions& options = {});

 private:
  Tensor forward(const Tensor& x) override;
};

// Two-dimensional convolution, NHWC; every weight [out, kernel, kernel, in / groups]. No norm inside.
class QuadraticConv2d final : public QuadraticLayer {
 public:
  explicit QuadraticConv2d(const Conv2dOptions& conv, const QuadraticOptions& options = {});

 private:
  Tensor forward(const Tensor& x) override;
  ConvAttributes attributes_;
};

// QuadraLib's layer: y = BN_a(A*x) ∘ BN_b(B*x) + BN_c(C*x); three convolutions without bias, each with its own
// BatchNorm before the product, since products of raw outputs give extreme values.
class QuadraticConv2dNormed final : public Module {
 public:
  QuadraticConv2dNormed(int64_t in, int64_t out, int kernel, int stride, int padding);

  // norm.relu of its result and a residual (absent: none); where a step keeps all that backward reads, in one op, which
  // does not keep what it norms.
  Tensor normed(Tensor x, BatchNorm& norm, const Tensor& residual = {});

  // For fold of what holds it, once it is folded itself.
  void scale_outputs(std::span<const double> factor);
  void shift_outputs(std::span<const double> shift);

 private:
  Tensor forward(const Tensor& x) override;
  Tensor branches(const Tensor& x, const OutputNorm& output, const BatchNormOptions& options) const;
  void fold_own() override;  // into a QuadraticConv2d's weights
  struct Branch {
    Tensor weight, gamma, beta, running_mean, running_var;
  };
  int stride_, padding_;
  Branch branches_[3];       // a, b, c
  Tensor a_, b_, c_, bias_;  // folded
};

// QuadraNet's token mixer: y = (A*x)∘(B*x) + C*x, three depthwise convolutions with "same" padding and no bias.
class QuadraticDepthwise final : public Module {
 public:
  QuadraticDepthwise(int64_t channels, int kernel);
  Tensor scaled(const Tensor& x, const Tensor& scale);  // scale ∘ y, by scaling A and C; y where scale is absent
  void scale_outputs(std::span<const double> factor);   // for fold of what holds it

 private:
  Tensor forward(const Tensor& x) override { return mixed(x, c_, a_); }
  Tensor mixed(const Tensor& x, const Tensor& c, const Tensor& a) const;
  int kernel_;
  Tensor a_, b_, c_;
};

}  // namespace parabola
