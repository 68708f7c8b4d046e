// The first-order layers: linear, convolution, norms. Linear and Conv2d can carry an adapter (adapter.h).
#pragma once
#include <memory>

#include "engine/ops/batch_norm.h"
#include "engine/ops/conv2d/geometry.h"
#include "layers/fold.h"
#include "layers/module.h"

namespace parabola {

// What an adapter does in a layer's forward: computes the layer's output together with its own term. `weight` and
// `bias` are the host's own.
class Adapter : public Module {
 public:
  explicit Adapter(double scale) : scale_(scale) {}
  virtual Tensor adapted(const Tensor& x, const Tensor& weight, const Tensor& bias) = 0;

  // For the host's fold. scale_outputs: multiplies the term, output by output. fold_scale: puts the adapter's scale
  // into its factors. as_weight: the term as something to add to a host's weight of this shape; empty where it is no
  // such.
  virtual void scale_outputs(std::span<const double> factor) = 0;
  void fold_scale(int64_t outputs);
  virtual std::vector<double> as_weight(const Shape& /*weight*/) const { return {}; }

 protected:
  double scale() const { return scale_; }

 private:
  Tensor forward(const Tensor& x) final;  // an adapter alone computes nothing: UsageError
  double scale_;
};

// A layer that an adapter can be attached to. The adapter's tensors appear as "<layer>.adapter.*".
class Host : public Module {
 public:
  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }
  Adapter* adapter() const { return adapter_.get(); }
  void attach(std::unique_ptr<Adapter> adapter);
  void detach();

  // For fold: output channel k, the adapter's term with it, becomes factor[k] times itself; plus shift[k].
  void scale_outputs(std::span<const double> factor);
  void shift_outputs(std::span<const double> shift);

 protected:
  Tensor forward(const Tensor& x) final;
  virtual Tensor plain(const Tensor& x) = 0;
  virtual int output_axis() const { return 0; }  // of the weight
  Tensor weight_, bias_;

 private:
  void fold_own() override;
  std::unique_ptr<Adapter> adapter_;
};

// How a layer's weights and biases start: PyTorch's default, or ConvNeXt's normal(0.02) with zero biases.
enum class WeightInit : uint8_t { pytorch, convnext };

// y = W x + b over the last axis; W [out, in].
class Linear final : public Host {
 public:
  Linear(int64_t in, int64_t out, bool bias = true, WeightInit init = WeightInit::pytorch);
  int64_t in() const { return weight_.shape()[1]; }
  int64_t out() const { return weight_.shape()[0]; }

 private:
  Tensor plain(const Tensor& x) override;
};

// residual + scale ∘ second(gelu(first(x))), in one op where neither layer has an adapter; without scale or residual
// where they are absent.
Tensor mlp(Linear& first, Linear& second, const Tensor& x, const Tensor& scale = {}, const Tensor& residual = {});

// Two-dimensional convolution, NHWC, symmetric zero padding. groups = in = out: depthwise, with weights [R, S, C];
// otherwise [K, R, S, C / groups].
struct Conv2dOptions {
  int64_t in, out;
  int kernel;
  int stride = 1, padding = 0, dilation = 1, groups = 1;
  bool bias = true;
  WeightInit init = WeightInit::pytorch;
  bool depthwise() const { return groups > 1 && groups == in && groups == out; }
};

class BatchNorm;

class Conv2d final : public Host {
 public:
  explicit Conv2d(const Conv2dOptions& options);
  const Conv2dOptions& options() const { return options_; }
  // Of norm.relu(x, residual), which `normed` gets where it is wanted; one op that keeps its inputs but not that, if
  // there is one for the two.
  Tensor of_normed(Tensor x, BatchNorm& norm, const Tensor& residual = {}, Tensor* normed = nullptr);
  bool has_inside(const BatchNorm& norm) const;  // whether there is: in training, without bias or adapter

 private:
  Tensor plain(const Tensor& x) override;
  ConvAttributes attributes() const;
  int output_axis() const override { return options_.depthwise() ? 2 : 0; }
  Conv2dOptions options_;
};

// Batch normalisation over all axes but the last. In training it uses batch statistics and moves the running ones,
// unless the layer is frozen: then it always uses the running ones, as in evaluation.
class BatchNorm final : public Module {
 public:
  explicit BatchNorm(int64_t channels);
  // max(0, its result + residual (absent: none)) in one op: the end of a residual block.
  Tensor relu(const Tensor& x, const Tensor& residual = {});
  void freeze(bool on) { frozen_ = on; }
  bool absorbed() const { return !weight_; }  // by the layer before
  // For ops that have it in them: what it does, with a relu, and [gamma, beta, running mean, running variance].
  BatchNormOptions relu_options() const { return options(true); }
  std::array<Tensor, 4> norm_inputs() const { return {weight_, bias_, running_mean_, running_var_}; }
  void set_momentum(double momentum) { momentum_ = momentum; }  // share of a batch in the running statistics; 0.1
  ChannelMap take_map();  // for fold: what it does in evaluation mode; from now on it does nothing and has no tensors

 private:
  Tensor forward(const Tensor& x) override;
  BatchNormOptions options(bool relu) const;
  Tensor weight_, bias_, running_mean_, running_var_;
  double momentum_ = 0.1;
  bool frozen_ = false;
};

// Layer normalisation over the last axis, eps 1e-6 (ConvNeXt's).
class LayerNorm final : public Module {
 public:
  explicit LayerNorm(int64_t channels);

 private:
  Tensor forward(const Tensor& x) override;
  Tensor weight_, bias_;
};

// ConvNeXt V2's global response normalisation of NHWC images, eps 1e-6; gamma and beta begin at zero, where it changes
// nothing.
class GlobalResponseNorm final : public Module {
 public:
  explicit GlobalResponseNorm(int64_t channels);

 private:
  Tensor forward(const Tensor& x) override;
  Tensor gamma_, beta_;
};

}  // namespace parabola
