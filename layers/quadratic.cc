#include "layers/quadratic.h"

#include <algorithm>

#include "engine/ops/binary.h"
#include "engine/ops/depthwise/quadratic_depthwise_conv2d.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d_normed.h"
#include "engine/ops/quadratic_linear.h"
#include "engine/ops/view.h"
#include "engine/tape/tape.h"

namespace parabola {

void QuadraticLayer::add_weights(const QuadraticOptions& options, const Shape& kernel) {
  using enum QuadraticType;
  const auto is = [&](std::initializer_list<QuadraticType> types) {
    return std::find(types.begin(), types.end(), options.type) != types.end();
  };
  const bool dense = kernel.rank() == 2, form = is({type1, type12});
  const int64_t n = kernel.product(1, kernel.rank());
  const FileLayout plain = dense ? FileLayout::plain : FileLayout::conv;
  const FileLayout factors = dense ? FileLayout::linear_factors : FileLayout::conv_factors;
  const Init init = kaiming_uniform(n);
  const int64_t J = form ? n : 1;
  const Shape factor = dense ? Shape{J, kernel[0], kernel[1]} : Shape{J, kernel[0], kernel[1], kernel[2], kernel[3]};
  if (is({type3, type4, type24, type24_shared})) add("a.weight", a_, factor, init, factors);
  if (!is({type2, type3})) add("b.weight", b_, factor, form ? kaiming_uniform(n * n) : init, factors);
  if (is({type2, type12, type24})) add("square.weight", square_, kernel, init, plain);
  if (options.linear) add("c.weight", c_, kernel, init, plain);
  if (options.bias) add("c.bias", bias_, Shape{kernel[0]}, init);
  if (options.type == type24_shared) shared_ = kernel;
}

QuadraticTerm QuadraticLayer::term() const { return {a_, b_, shared_.rank() > 0 ? reshape(b_, shared_) : square_}; }

QuadraticLinear::QuadraticLinear(int64_t in, int64_t out, const QuadraticOptions& options) {
  add_weights(options, {out, in});
}

Tensor QuadraticLinear::forward(const Tensor& x) { return quadratic_linear(x, c_, bias_, term()); }

QuadraticConv2d::QuadraticConv2d(const Conv2dOptions& conv, const QuadraticOptions& options)
    : attributes_{conv.stride, conv.padding, conv.dilation, conv.groups} {
  QuadraticOptions weights = options;
  weights.bias = options.bias && conv.bias;
  add_weights(weights, {conv.out, conv.kernel, conv.kernel, conv.in / conv.groups});
}

Tensor QuadraticConv2d::forward(const Tensor& x) {
  return quadratic_conv2d(x, c_, bias_, term(), {attributes_, attributes_});
}

QuadraticConv2dNormed::QuadraticConv2dNormed(int64_t in, int64_t out, int kernel, int stride, int padding)
    : stride_(stride), padding_(padding) {
  const Init init = kaiming_uniform(in * kernel * kernel);
  for (int i = 0; i < 3; ++i) {
    const std::string letter(1, "abc"[i]);
    Branch& branch = branches_[i];
    add("conv_" + letter + ".weight", branch.weight, Shape{out, kernel, kernel, in}, init, FileLayout::conv);
    add("bn_" + letter + ".weight", branch.gamma, Shape{out}, {Init::constant, 1});
    add("bn_" + letter + ".bias", branch.beta, Shape{out}, {Init::constant, 0});
    add_buffer("bn_" + letter + ".running_mean", branch.running_mean, Shape{out}, 0);
    add_buffer("bn_" + letter + ".running_var", branch.running_var, Shape{out}, 1);
  }
}

// (A x + p)∘(B x + q) + C x + r = (A x)∘(B x) + (C + q∘A + p∘B) x + p∘q + r, with the norms' scales in A, B and C.
void QuadraticConv2dNormed::fold_own() {
  std::array<Tensor, 3> weights;
  std::array<std::vector<double>, 3> shifts;
  for (size_t i = 0; i < 3; ++i) {
    auto& [weight, gamma, beta, mean, variance] = branches_[i];
    ChannelMap map = norm_map(take(gamma), take(beta), take(mean), take(variance), NormedConvAttributes{}.eps);
    weights[i] = scaled_along(take(weight), 0, map.scale);
    shifts[i] = std::move(map.shift);
  }
  const auto& [a, b, c] = weights;
  const Shape& kernel = a.shape();
  const Shape factor{1, kernel[0], kernel[1], kernel[2], kernel[3]};
  std::vector<double> constant = shifts[2];
  for (size_t k = 0; k < constant.size(); ++k) constant[k] += shifts[0][k] * shifts[1][k];
  const std::vector<double> cross = values_of(scaled_along(a, 0, shifts[1]));
  put("a.weight", a_, a.view(factor), FileLayout::conv_factors);
  put("b.weight", b_, b.view(factor), FileLayout::conv_factors);
  put("c.weight", c_, shifted(shifted(c, cross), values_of(scaled_along(b, 0, shifts[0]))), FileLayout::conv);
  put("c.bias", bias_, parameter_from(constant, Shape{kernel[0]}, a));
}

void QuadraticConv2dNormed::scale_outputs(std::span<const double> factor) {
  a_ = scaled_along(a_, 1, factor);
  c_ = scaled_along(c_, 0, factor);
  bias_ = scaled_along(bias_, 0, factor);
}

void QuadraticConv2dNormed::shift_outputs(std::span<const double> shift) { bias_ = shifted(bias_, shift); }

Tensor QuadraticConv2dNormed::forward(const Tensor& x) {
  if (folded()) {
    const ConvAttributes conv{.stride = stride_, .padding = padding_};
    return quadratic_conv2d(x, c_, bias_, a_, b_, {conv, conv});
  }
  return branches(x, {}, {});
}

// One op keeps less, but two hold less at once in backward, and the first one's result can be dropped: better wherever
// not all is kept.
Tensor QuadraticConv2dNormed::normed(Tensor x, BatchNorm& norm, const Tensor& residual) {
  const Tape* tape = Tape::current();
  const bool keeps_all = tape && tape->options().checkpoint == Checkpoint::none;
  if (norm.absorbed() || !training() || !norm.relu_options().training || !keeps_all) {
    x = (*this)(x);
    return norm.relu(x, residual);
  }
  const auto [gamma, beta, mean, variance] = norm.norm_inputs();
  const Scope scope(name());
  return branches(x, {gamma, beta, mean, variance, residual}, norm.relu_options());
}

Tensor QuadraticConv2dNormed::branches(const Tensor& x, const OutputNorm& output,
                                       const BatchNormOptions& options) const {
  std::array<NormedBranch, 3> branches;
  for (size_t i = 0; i < 3; ++i)
    branches[i] = {branches_[i].weight, branches_[i].gamma, branches_[i].beta, branches_[i].running_mean,
                   branches_[i].running_var};
  return quadratic_conv2d_normed(
      x, branches, {.stride = stride_, .padding = padding_, .training = training(), .output = options}, output);
}

QuadraticDepthwise::QuadraticDepthwise(int64_t channels, int kernel) : kernel_(kernel) {
  const Init init{Init::normal, 0.02};
  add("a.weight", a_, Shape{1, kernel, kernel, channels}, init, FileLayout::depthwise_factors);
  add("b.weight", b_, Shape{1, kernel, kernel, channels}, init, FileLayout::depthwise_factors);
  add("c.weight", c_, Shape{kernel, kernel, channels}, init, FileLayout::depthwise);
}

void QuadraticDepthwise::scale_outputs(std::span<const double> factor) {
  a_ = scaled_along(a_, 3, factor);
  c_ = scaled_along(c_, 2, factor);
}

Tensor QuadraticDepthwise::scaled(const Tensor& x, const Tensor& scale) {
  const Scope scope(name());
  return scale ? mixed(x, c_ * scale, a_ * scale) : mixed(x, c_, a_);
}

Tensor QuadraticDepthwise::mixed(const Tensor& x, const Tensor& c, const Tensor& a) const {
  const int padding = kernel_ / 2;
  return quadratic_depthwise_conv2d(x, c, Tensor(), a, b_,
                                    {.padding = padding, .quadratic_padding = padding, .scale = 1.0});
}

}  // namespace parabola
