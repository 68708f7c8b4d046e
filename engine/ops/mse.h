#pragma once
#include "engine/core/op.h"

namespace parabola {

// The mean of (a - b)^2 over all elements of two tensors of one shape; a scalar, summed in a fixed order. Backward
// reads both: da = 2 (a - b) dloss / n for n elements, db = -da, each where it is wanted. Saved by default. Cost: two
// reads; backward two reads and a write for each gradient. ShapeError (also where there is no element), DTypeError.
Tensor mse(const Tensor& a, const Tensor& b);

extern const OpDef mse_op;

}  // namespace parabola
