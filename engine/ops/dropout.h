#pragma once
#include "engine/core/op.h"

namespace parabola {

// Sets each element of x to zero with probability p and multiplies the others by 1 / (1 - p). The mask is drawn by
// Philox from the node's key and the element's index; it is never stored, and backward and replays draw it again. p = 0
// returns x itself. Recomputed by default. UsageError unless 0 <= p < 1. Srivastava et al., "Dropout", 2014.
Tensor dropout(const Tensor& x, double p);

// The same for whole samples, the slices along axis 0 (stochastic depth): for the residual branch of a block.
// ShapeError for a scalar. Huang et al., "Deep networks with stochastic depth", 2016.
Tensor drop_path(const Tensor& x, double p);

struct DropAttributes {
  double p = 0;
};
extern const OpDef dropout_op, drop_path_op;

}  // namespace parabola
