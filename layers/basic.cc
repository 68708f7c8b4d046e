#include "layers/basic.h"

#include "engine/core/error.h"
#include "engine/ops/binary.h"
#include "engine/ops/conv2d/batch_norm_relu_conv2d.h"
#include "engine/ops/conv2d/conv2d.h"
#include "engine/ops/depthwise/depthwise_conv2d.h"
#include "engine/ops/gelu.h"
#include "engine/ops/global_response_norm.h"
#include "engine/ops/layer_norm.h"
#include "engine/ops/linear.h"
#include "engine/ops/mlp.h"
#include "engine/ops/relu.h"

namespace parabola {
namespace {

constexpr double convnext_deviation = 0.02;  // ConvNeXt's and QuadraNet's trunc_normal_

Init weight_init(WeightInit init, int64_t fan_in) {
  return init == WeightInit::pytorch ? kaiming_uniform(fan_in) : Init{Init::normal, convnext_deviation};
}
Init bias_init(WeightInit init, int64_t fan_in) {
  return init == WeightInit::pytorch ? kaiming_uniform(fan_in) : Init{Init::constant, 0};
}

}  // namespace

Tensor Adapter::forward(const Tensor&) {
  fail<UsageError>("adapter", "an adapter runs inside of its layer, not alone");
}

void Adapter::fold_scale(int64_t outputs) {
  scale_outputs(std::vector<double>(static_cast<size_t>(outputs), scale_));
  scale_ = 1;
}

void Host::attach(std::unique_ptr<Adapter> adapter) {
  if (adapter_) fail<UsageError>("adapter", "the layer has an adapter already, expected none");
  adapter_ = std::move(adapter);
  add("adapter", *adapter_);
}

void Host::detach() {
  if (!adapter_) return;
  remove(*adapter_);
  adapter_.reset();
}

void Host::scale_outputs(std::span<const double> factor) {
  weight_ = scaled_along(weight_, output_axis(), factor);
  if (bias_) bias_ = scaled_along(bias_, 0, factor);
  if (adapter_) adapter_->scale_outputs(factor);
}

void Host::shift_outputs(std::span<const double> shift) {
  if (bias_)
    bias_ = shifted(bias_, shift);
  else
    put("bias", bias_, parameter_from({shift.begin(), shift.end()}, Shape{std::ssize(shift)}, weight_));
}

void Host::fold_own() {
  if (!adapter_) return;
  adapter_->fold_scale(weight_.shape()[output_axis()]);
  const std::vector<double> term = adapter_->as_weight(weight_.shape());
  if (term.empty()) return;
  weight_ = shifted(weight_, term);
  detach();
}

Tensor Host::forward(const Tensor& x) { return adapter_ ? adapter_->adapted(x, weight_, bias_) : plain(x); }

Linear::Linear(int64_t in, int64_t out, bool bias, WeightInit init) {
  add("weight", weight_, Shape{out, in}, weight_init(init, in));
  if (bias) add("bias", bias_, Shape{out}, bias_init(init, in));
}

Tensor Linear::plain(const Tensor& x) { return linear(x, weight_, bias_); }

Tensor mlp(Linear& first, Linear& second, const Tensor& x, const Tensor& scale, const Tensor& residual) {
  if (first.adapter() || second.adapter()) {
    const Tensor y = second(gelu(first(x))), scaled = scale ? scale * y : y;
    return residual ? residual + scaled : scaled;
  }
  return mlp(x, first.weight(), first.bias(), second.weight(), second.bias(), scale, residual);
}

Conv2d::Conv2d(const Conv2dOptions& o) : options_(o) {
  const int64_t channels = o.in / o.groups, fan_in = channels * o.kernel * o.kernel;
  const Shape shape = o.depthwise() ? Shape{o.kernel, o.kernel, o.in} : Shape{o.out, o.kernel, o.kernel, channels};
  add("weight", weight_, shape, weight_init(o.init, fan_in), o.depthwise() ? FileLayout::depthwise : FileLayout::conv);
  if (o.bias) add("bias", bias_, Shape{o.out}, bias_init(o.init, fan_in));
}

ConvAttributes Conv2d::attributes() const {
  return {.stride = options_.stride,
          .padding = options_.padding,
          .dilation = options_.dilation,
          .groups = options_.depthwise() ? 1 : options_.groups};
}

Tensor Conv2d::plain(const Tensor& x) {
  const ConvAttributes a = attributes();
  if (!options_.depthwise()) return conv2d(x, weight_, bias_, a);
  return depthwise_conv2d(x, weight_, bias_, {.stride = a.stride, .padding = a.padding, .dilation = a.dilation});
}

bool Conv2d::has_inside(const BatchNorm& norm) const {
  return !adapter() && !bias_ && !options_.depthwise() && !norm.absorbed() && norm.relu_options().training;
}

Tensor Conv2d::of_normed(Tensor x, BatchNorm& norm, const Tensor& residual, Tensor* normed) {
  if (!has_inside(norm)) {
    x = norm.relu(x, residual);
    if (normed) *normed = x;
    return (*this)(x);
  }
  const auto [gamma, beta, mean, variance] = norm.norm_inputs();
  const BatchNormOptions options = norm.relu_options();
  const Scope scope(name());
  return batch_norm_relu_conv2d(x, gamma, beta, mean, variance, weight_,
                                {.momentum = options.momentum, .eps = options.eps, .conv = attributes()}, residual,
                                normed);
}

BatchNorm::BatchNorm(int64_t channels) {
  add("weight", weight_, Shape{channels}, {Init::constant, 1});
  add("bias", bias_, Shape{channels}, {Init::constant, 0});
  add_buffer("running_mean", running_mean_, Shape{channels}, 0);
  add_buffer("running_var", running_var_, Shape{channels}, 1);
}

ChannelMap BatchNorm::take_map() {
  return norm_map(take(weight_), take(bias_), take(running_mean_), take(running_var_), BatchNormOptions{}.eps);
}

BatchNormOptions BatchNorm::options(bool relu) const {
  return {.momentum = momentum_, .training = training() && !frozen_, .relu = relu};
}

Tensor BatchNorm::forward(const Tensor& x) {
  return absorbed() ? x : batch_norm(x, weight_, bias_, running_mean_, running_var_, options(false));
}

Tensor BatchNorm::relu(const Tensor& x, const Tensor& residual) {
  if (absorbed()) return parabola::relu(residual ? x + residual : x);
  const Scope scope(name());
  return batch_norm(x, weight_, bias_, running_mean_, running_var_, options(true), residual);
}

LayerNorm::LayerNorm(int64_t channels) {
  add("weight", weight_, Shape{channels}, {Init::constant, 1});
  add("bias", bias_, Shape{channels}, {Init::constant, 0});
}

Tensor LayerNorm::forward(const Tensor& x) { return layer_norm(x, weight_, bias_, 1e-6); }

GlobalResponseNorm::GlobalResponseNorm(int64_t channels) {
  add("gamma", gamma_, Shape{channels}, {Init::constant, 0});
  add("beta", beta_, Shape{channels}, {Init::constant, 0});
}

Tensor GlobalResponseNorm::forward(const Tensor& x) { return global_response_norm(x, gamma_, beta_); }

}  // namespace parabola
