// What the rules and the kernels of batch_norm_relu_conv2d share: it is made of batch_norm_op, whose inputs are its
// first five, and a convolution.
#pragma once
#include <algorithm>

#include "engine/ops/batch_norm.h"
#include "engine/ops/conv2d/batch_norm_relu_conv2d.h"
#include "engine/ops/scratch.h"

namespace parabola::normed_input {

constexpr size_t norm_inputs = 5;
constexpr int weight_input = 5;
constexpr uint64_t norm_mask = (1 << norm_inputs) - 1;

inline ConvGeometry geometry_of(const Attributes& attributes, const Shape& x, const Shape& weight) {
  return conv_geometry("batch_norm_relu_conv2d", x, weight, attributes.get<BatchNormReluConv2dAttributes>().conv);
}

inline Attributes norm_attributes(const Attributes& attributes) {
  const auto& own = attributes.get<BatchNormReluConv2dAttributes>();
  return BatchNormOptions{.momentum = own.momentum, .eps = own.eps, .relu = true};
}

// Whether the gradient of the convolution's input is wanted, for whatever of the norm.
inline bool wants_norm(uint64_t gradient_mask) { return (gradient_mask & norm_mask) != 0; }

// Runs batch_norm_op's forward kernel for some device, into `y`; args: this op's, of forward or, made again, backward.
template <class Args>
void normalise(const OpDef::Kernels& kernels, const Args& args, TensorView y, std::byte* workspace, bool replay,
               bool auxiliary_ready) {
  const Attributes attributes = norm_attributes(args.attributes);
  ForwardArgs norm{.attributes = attributes,
                   .inputs = args.inputs.first(norm_inputs),
                   .outputs = {&y, 1},
                   .auxiliary = args.auxiliary,
                   .workspace = workspace,
                   .stream = args.stream};
  norm.replay = replay, norm.auxiliary_ready = auxiliary_ready;
  kernels.forward(norm);
}

// Its backward kernel, from the gradient of its result, whose place x's may take.
inline void norm_backward(const OpDef::Kernels& kernels, const BackwardArgs& args, TensorView gradient,
                          std::byte* workspace) {
  const Attributes attributes = norm_attributes(args.attributes);
  const TensorView y{nullptr, gradient.shape, gradient.dtype};
  kernels.backward({.attributes = attributes,
                    .inputs = args.inputs.first(norm_inputs),
                    .outputs = {&y, 1},
                    .auxiliary = args.auxiliary,
                    .output_gradients = {&gradient, 1},
                    .input_gradients = args.input_gradients.first(norm_inputs),
                    .accumulate = args.accumulate & norm_mask,
                    .workspace = workspace,
                    .stream = args.stream});
}

// The parts of the workspace: max(0, batch_norm(x)), where the convolution reads that from memory, its gradient, where
// that is not put where x's goes, and what the kernels themselves ask for.
template <class T>
struct Buffers {
  T *normed, *gradient;
  std::byte* tools;
  Buffers(Scratch& scratch, const ConvGeometry& g, bool reads_normed, bool own_gradient, size_t tool_bytes) {
    normed = scratch.take<T>(reads_normed ? g.N * g.H * g.W * g.C : 0);
    gradient = scratch.take<T>(own_gradient ? g.N * g.H * g.W * g.C : 0);
    tools = scratch.take<std::byte>(static_cast<int64_t>(tool_bytes));
  }
};

}  // namespace parabola::normed_input
