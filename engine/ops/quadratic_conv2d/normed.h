// What the rules and the kernels of quadratic_conv2d_normed share.
#pragma once
#include "engine/ops/column_stats.h"
#include "engine/ops/conv2d/convolve.h"
#include "engine/ops/inner_batch_norm.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d_normed.h"
#include "engine/ops/scratch.h"

namespace parabola::normed {

// Inputs: x; the weights of a, b, c; gamma and beta of each; running mean and variance of each; gamma, beta, running
// mean and variance of the output's norm, and the residual, perhaps absent.
constexpr int weight_input(int k) { return 1 + k; }
constexpr int gamma_input(int k) { return 4 + 2 * k; }
constexpr int beta_input(int k) { return 5 + 2 * k; }
constexpr int mean_input(int k) { return 10 + 2 * k; }
constexpr int variance_input(int k) { return 11 + 2 * k; }
constexpr int output_input = 16, residual_input = 20, all_inputs = 21;
constexpr uint64_t bits(int begin, int end) { return (uint64_t{1} << end) - (uint64_t{1} << begin); }

template <bool training>
constexpr const char* name = training ? "quadratic_conv2d_normed" : "quadratic_conv2d_normed_inference";

// The three convolutions as one with 3 K outputs, [a; b; c].
inline ConvGeometry stacked_geometry(const char* op, const Attributes& attributes, const Shape& x,
                                     const Shape& weight) {
  const auto& a = attributes.get<NormedConvAttributes>();
  const ConvAttributes conv{.stride = a.stride, .padding = a.padding};
  const ConvGeometry one = conv_geometry(op, x, weight, conv);
  return conv_geometry(op, x, 3 * one.K, one.R, one.S, conv);
}

// Whether there is an output norm, by a signature's or a kernel's inputs.
template <class Inputs>
bool norms_output(const Inputs& inputs) {
  return inputs.size() == all_inputs;
}

// It as a call of batch_norm_op, for the product, which is at `product`. Its statistics come last.
template <class Args>
InnerBatchNorm output_norm(const OpDef::Kernels& kernels, const Args& args, const TensorView& product,
                           std::byte* workspace) {
  std::vector<TensorView> inputs{product};
  inputs.insert(inputs.end(), args.inputs.begin() + output_input, args.inputs.end());
  return {kernels,   args.attributes.template get<NormedConvAttributes>().output,
          inputs,    args.auxiliary.last(2),
          workspace, args.stream};
}

// Its gradients among those of this op: the product's is wanted for whatever comes before it.
constexpr uint64_t output_mask(uint64_t gradients) {
  return uint64_t{(gradients & bits(0, 10)) != 0} | (gradients >> output_input & 3) << 1 |
         (gradients >> residual_input & 1) << 5;
}

// The gradient of the product, which was made again at `product`, takes its place; those of the norm's inputs go where
// they are wanted. False: nothing before the norm wants a gradient.
bool output_backward(const OpDef::Kernels& kernels, const BackwardArgs& args, void* product, std::byte* workspace);

// Scratch of both passes; see Scratch for why it is listed once. z: the branches before their norms, [pixels, 3 K];
// product: a∘b + c, [pixels, K], where backward goes through an output norm.
template <class T>
struct Buffers {
  T *weights, *z, *gradient, *coefficients, *product, *tools;
  Buffers(Scratch& scratch, const ConvGeometry& g, bool own_z, bool backward, bool norms_output) {
    const RowBlocks rows{g.pixels(), g.K};
    const auto elements = [](size_t bytes) { return static_cast<int64_t>(bytes / sizeof(T)); };
    weights = scratch.take<T>(g.K * g.depth());
    z = scratch.take<T>(own_z || backward ? g.pixels() * g.K : 0);  // backward turns z, or a copy's place, into dz
    gradient = scratch.take<T>(backward ? g.K * std::max<int64_t>(2, g.depth()) : 0);
    coefficients = scratch.take<T>(4 * g.K);
    product = scratch.take<T>(norms_output && backward ? g.pixels() * g.K / 3 : 0);
    int64_t most = std::max(convolve_workspace(g), elements(column_moments_workspace<T>(rows)));
    if (backward)
      most = std::max({most, elements(column_sums_workspace<T>(rows, 2)), input_gradient_workspace(g),
                       weight_gradient_workspace(g)});
    if (norms_output) {
      const Layout norm = inner_norm_layout({g.N, g.Ho, g.Wo, g.K / 3}, dtype_of<T>, DeviceKind::cpu);
      most = std::max(most, elements(backward ? norm.backward_workspace : norm.forward_workspace));
    }
    tools = scratch.take<T>(most);
  }
};

template <bool training, class T>
void forward(const ForwardArgs& args);
template <bool training, class T>
void backward(const BackwardArgs& args);

}  // namespace parabola::normed
