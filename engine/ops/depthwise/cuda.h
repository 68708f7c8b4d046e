// The CUDA kernels that depthwise_conv2d and quadratic_depthwise_conv2d share; kernels.h has the CPU's. Arguments are
// the same.
#pragma once
#include "engine/ops/depthwise/kernels.h"

namespace parabola::depthwise {

template <class T>
void device_forward(const Problem& problem, const ForwardArgs& args);
template <class T>
void device_backward(const Problem& problem, const BackwardArgs& args);
template <class T>
size_t device_backward_workspace(const Problem& problem, uint64_t gradient_mask);

}  // namespace parabola::depthwise
