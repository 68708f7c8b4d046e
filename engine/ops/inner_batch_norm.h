// batch_norm_op, with the batch's statistics, as a part of other ops, on any device.
#pragma once
#include <vector>

#include "engine/ops/batch_norm.h"

namespace parabola {

// One call of its kernels: with its inputs (the residual may be missing), statistics and scratch.
struct InnerBatchNorm {
  const OpDef::Kernels& kernels;
  Attributes attributes;
  std::vector<TensorView> inputs;
  std::span<const TensorView> statistics;
  std::byte* workspace;
  DeviceStream stream;

  // y may be where x is.
  void forward(const TensorView& y, bool replay, bool statistics_ready) const {
    kernels.forward({.attributes = attributes,
                     .inputs = inputs,
                     .outputs = {&y, 1},
                     .auxiliary = statistics,
                     .workspace = workspace,
                     .stream = stream,
                     .replay = replay,
                     .auxiliary_ready = statistics_ready});
  }
  // x's gradient may be where dy is or where x is. With a relu y need not be there in training: its mask is then made
  // again from x and, where there is one, the residual.
  void backward(const TensorView& y, const TensorView& dy, std::span<const TensorView> gradients,
                uint64_t accumulate) const {
    kernels.backward({.attributes = attributes,
                      .inputs = inputs,
                      .outputs = {&y, 1},
                      .auxiliary = statistics,
                      .output_gradients = {&dy, 1},
                      .input_gradients = gradients,
                      .accumulate = accumulate,
                      .workspace = workspace,
                      .stream = stream});
  }
};

inline const OpDef::Kernels& norm_kernels(DeviceKind device) {
  return device == DeviceKind::cpu ? batch_norm_op.cpu : CudaKernels::of(batch_norm_op)->kernels;
}

// What it asks for, for x of this shape.
inline Layout inner_norm_layout(const Shape& x, DType dtype, DeviceKind device) {
  const Attributes attributes = BatchNormOptions{};
  std::vector<TensorSpec> inputs(5, {Shape{x.back()}, dtype});
  inputs[0].shape = x;
  return layout_of(batch_norm_op, {attributes, inputs}, {device});
}

}  // namespace parabola
