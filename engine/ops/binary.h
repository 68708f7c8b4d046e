// a + b, a - b, a * b, a / b element by element, f32 or f64, with NumPy's broadcasting: trailing axes aligned, sizes
// equal or 1. Sums and differences keep nothing; products keep the operand that the other one's gradient needs;
// quotients b, for da = dy / b, and where b's gradient is wanted a, for db = -dy a / b^2. Recomputed by default. The
// gradient of an operand that was broadcast is summed over the repeated axes in a fixed order. ShapeError, DTypeError.
#pragma once
#include "engine/core/op.h"

namespace parabola {

Tensor add(const Tensor& a, const Tensor& b);
Tensor subtract(const Tensor& a, const Tensor& b);
Tensor multiply(const Tensor& a, const Tensor& b);
Tensor divide(const Tensor& a, const Tensor& b);
inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return subtract(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return multiply(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return divide(a, b); }

extern const OpDef add_op, subtract_op, multiply_op, divide_op;

}  // namespace parabola
