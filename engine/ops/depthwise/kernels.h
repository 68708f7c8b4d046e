// The kernels that depthwise_conv2d and quadratic_depthwise_conv2d share; the first is a problem without factors. A
// task is some images of some vectors of channels: x is copied into a zero-padded tile once and serves the linear
// kernel and all factors. Where the plain op has the common 3x3 kernel, there are no tiles (rows.h). Both ops have the
// inputs x, weight, bias (and a, b), in this order, absent ones with a null pointer.
#pragma once
#include "engine/ops/depthwise/tables.h"

namespace parabola::depthwise {

// Input positions, which are those of the gradients too.
enum : int { input_x, input_weight, input_bias, input_a, input_b };

size_t forward_workspace(const Problem& problem, DType dtype);
size_t backward_workspace(const Problem& problem, DType dtype, uint64_t gradient_mask, bool kept);

// Auxiliary results, where there are any, are the a_j and the b_j, [J, N, Ho, Wo, C] each; backward uses them or, where
// it finds none, computes the same bits from x.
template <class T>
void forward(const Problem& problem, const ForwardArgs& args);
template <class T>
void backward(const Problem& problem, const BackwardArgs& args);

}  // namespace parabola::depthwise
