// Layers of networks that are quadratic from scratch. Formulas: docs/method.md.
#pragma once
#include "layers/basic.h"

namespace parabola {

// y = (A x)∘(B x) + C x + bias over the last axis; A, B, C [out, in].
class QuadraticLinear final : public Module {
 public:
  QuadraticLinear(int64_t in, int64_t out);

 private:
  Tensor forward(const Tensor& x) override;
  Tensor a_, b_, c_, bias_;
};

// QuadraLib's layer: y = BN_a(A*x) ∘ BN_b(B*x) + BN_c(C*x); three convolutions without bias, each with its own
// BatchNorm before the product, since products of raw outputs give extreme values.
class QuadraticConv2dNormed final : public Module {
 public:
  QuadraticConv2dNormed(int64_t in, int64_t out, int kernel, int stride, int padding);

 private:
  Tensor forward(const Tensor& x) override;
  struct Branch {
    Tensor weight, gamma, beta, running_mean, running_var;
  };
  int stride_, padding_;
  Branch branches_[3];  // a, b, c
};

// QuadraNet's token mixer: y = (A*x)∘(B*x) + C*x, three depthwise convolutions with "same" padding and no bias.
class QuadraticDepthwise final : public Module {
 public:
  QuadraticDepthwise(int64_t channels, int kernel);

 private:
  Tensor forward(const Tensor& x) override;
  int kernel_;
  Tensor a_, b_, c_;
};

}  // namespace parabola
