// What the rules and the kernels of batch_norm_relu_conv2d share. Its first inputs are those of its batch_norm.
#pragma once
#include <algorithm>

#include "engine/ops/conv2d/batch_norm_relu_conv2d.h"
#include "engine/ops/inner_batch_norm.h"
#include "engine/ops/scratch.h"

namespace parabola::normed_input {

constexpr size_t norm_inputs = 6;
constexpr int weight_input = 6;
constexpr uint64_t norm_mask = (1 << norm_inputs) - 1;

inline ConvGeometry geometry_of(const Attributes& attributes, const Shape& x, const Shape& weight) {
  return conv_geometry("batch_norm_relu_conv2d", x, weight, attributes.get<BatchNormReluConv2dAttributes>().conv);
}

// The gradients that backward wants.
inline uint64_t wanted_by(const BackwardArgs& args) {
  uint64_t wanted = 0;
  for (int i = 0; i <= weight_input; ++i) wanted |= uint64_t{args.wants(i)} << i;
  return wanted;
}

// Whether the gradient of the convolution's input is wanted, for whatever of the norm.
inline bool wants_norm(uint64_t wanted) { return (wanted & norm_mask) != 0; }

template <class Args>
InnerBatchNorm inner_norm(const OpDef::Kernels& kernels, const Args& args, std::byte* workspace) {
  const auto& own = args.attributes.template get<BatchNormReluConv2dAttributes>();
  const auto inputs = args.inputs.first(norm_inputs);
  return {kernels,
          BatchNormOptions{.momentum = own.momentum, .eps = own.eps, .relu = true},
          {inputs.begin(), inputs.end()},
          args.auxiliary,
          workspace,
          args.stream};
}

// The parts of the workspace: gamma / deviation [C]; what the convolution reads, where it reads that from memory, its
// gradient, where that is not put where x's goes, and what the kernels themselves ask for.
template <class T>
struct Buffers {
  T *scale, *normed, *gradient;
  std::byte* tools;
  TensorView x;  // its shape
  Buffers(Scratch& scratch, const ConvGeometry& g, bool reads_normed, bool own_gradient, size_t tool_bytes) {
    const int64_t elements = g.N * g.H * g.W * g.C;
    scale = scratch.take<T>(g.C);
    normed = scratch.take<T>(reads_normed ? elements : 0);
    gradient = scratch.take<T>(own_gradient ? elements : 0);
    tools = scratch.take<std::byte>(static_cast<int64_t>(tool_bytes));
    x = {nullptr, g.input_shape(), dtype_of<T>};
  }
  // A tensor of x's shape.
  TensorView view(T* pointer) const { return {pointer, x.shape, x.dtype}; }
};

}  // namespace parabola::normed_input
