// Checks that many ops make of their inputs.
#pragma once
#include "engine/core/op.h"

namespace parabola {

// DTypeError naming `op` unless all inputs that are there have the dtype of the first one.
inline void require_one_dtype(std::string_view op, const Signature& s) {
  for (const TensorSpec& input : s.inputs)
    if (input.present && input.dtype != s.dtype())
      fail<DTypeError>(op, "got ", name_of(s.dtype()), " and ", name_of(input.dtype), ", expected one dtype");
}

// ShapeError naming `op` and `what` ("bias") unless input i is absent or has this shape.
inline void require_shape(std::string_view op, const Signature& s, int i, std::string_view what, const Shape& shape) {
  if (s.has(i) && s.shape(i) != shape) fail<ShapeError>(op, what, ": got ", s.shape(i), ", expected ", shape);
}

// Counts work only where the gradient of input i is wanted.
inline void add_backward(StepCost& cost, const Signature& s, int i, const Cost& more) {
  if (!s.wants_gradient(i)) return;
  cost.backward.flops += more.flops;
  cost.backward.bytes_read += more.bytes_read;
  cost.backward.bytes_written += more.bytes_written;
}

}  // namespace parabola
