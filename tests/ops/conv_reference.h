// Convolution straight from its definition, in double: what all ops with a convolution in them are compared with.
#pragma once
#include "engine/ops/conv2d/geometry.h"
#include "tests/ops/harness.h"

namespace parabola::test {

// y [N, Ho, Wo, K] of x [N, H, W, C] and weight [K, R, S, C / groups]; bias may be empty.
Array naive_conv2d(const ConvGeometry& g, const Array& x, const Array& weight, const Array& bias);

}  // namespace parabola::test
