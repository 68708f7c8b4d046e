#pragma once
#include "engine/core/op.h"

namespace parabola {

// y = gamma (x r) + beta + x for x [N, H, W, C]; gamma and beta are [C]. r [N, C] says how strong a channel is beside
// its neighbours: r = g / (mean of g over C + eps), g [N, C] = the square root of the sum of x^2 over the image. Keeps
// g of each image; backward reads x, it and gamma, and finds r again. The gradient of g is 0 where g is. Recomputed by
// default; a replay whose g was kept only scales. Cost: 6 flops an element, backward up to 9. ShapeError, DTypeError.
// Woo et al., "ConvNeXt V2: co-designing and scaling ConvNets with masked autoencoders", 2023.
Tensor global_response_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps = 1e-6);

struct GlobalResponseNormAttributes {
  double eps = 1e-6;
};
extern const OpDef global_response_norm_op;

}  // namespace parabola
