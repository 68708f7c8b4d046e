#include "layers/quadratic.h"

#include "engine/ops/depthwise/quadratic_depthwise_conv2d.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d_normed.h"
#include "engine/ops/quadratic_linear.h"

namespace parabola {

QuadraticLinear::QuadraticLinear(int64_t in, int64_t out) {
  const Init init = kaiming_uniform(in);
  add("a.weight", a_, Shape{1, out, in}, init, FileLayout::linear_factors);
  add("b.weight", b_, Shape{1, out, in}, init, FileLayout::linear_factors);
  add("c.weight", c_, Shape{out, in}, init);
  add("c.bias", bias_, Shape{out}, init);
}

Tensor QuadraticLinear::forward(const Tensor& x) { return quadratic_linear(x, c_, bias_, a_, b_, 1.0); }

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

Tensor QuadraticConv2dNormed::forward(const Tensor& x) {
  std::array<NormedBranch, 3> branches;
  for (size_t i = 0; i < 3; ++i)
    branches[i] = {branches_[i].weight, branches_[i].gamma, branches_[i].beta, branches_[i].running_mean,
                   branches_[i].running_var};
  return quadratic_conv2d_normed(x, branches, {.stride = stride_, .padding = padding_, .training = training()});
}

QuadraticDepthwise::QuadraticDepthwise(int64_t channels, int kernel) : kernel_(kernel) {
  const Init init{Init::normal, 0.02};
  add("a.weight", a_, Shape{1, kernel, kernel, channels}, init, FileLayout::depthwise_factors);
  add("b.weight", b_, Shape{1, kernel, kernel, channels}, init, FileLayout::depthwise_factors);
  add("c.weight", c_, Shape{kernel, kernel, channels}, init, FileLayout::depthwise);
}

Tensor QuadraticDepthwise::forward(const Tensor& x) {
  const int padding = kernel_ / 2;
  return quadratic_depthwise_conv2d(x, c_, Tensor(), a_, b_,
                                    {.padding = padding, .quadratic_padding = padding, .scale = 1.0});
}

}  // namespace parabola
