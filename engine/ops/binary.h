// a + b, a - b, a * b element by element, f32 or f64, with NumPy's broadcasting: trailing axes aligned, sizes equal
// or 1. Products keep the operand that the other one's gradient needs; sums and differences keep nothing. Recomputed by
// default. The gradient of an operand that was broadcast is summed over the repeated axes in a fixed order. ShapeError,
// DTypeError.
#pragma once
#include "engine/core/op.h"

namespace parabola {

Tensor add(const Tensor& a, const Tensor& b);
Tensor subtract(const Tensor& a, const Tensor& b);
Tensor multiply(const Tensor& a, const Tensor& b);
inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return subtract(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return multiply(a, b); }

extern const OpDef add_op, subtract_op, multiply_op;

}  // namespace parabola
