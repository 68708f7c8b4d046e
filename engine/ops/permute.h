#pragma once
#include <array>
#include <vector>

#include "engine/core/op.h"

namespace parabola {

// Axes in another order: axis i of the result is axis order[i] of x, so order {0, 3, 1, 2} turns [N, H, W, C] into
// [N, C, H, W]. A copy; nothing is kept for backward, which goes the other way. Recomputed by default. ShapeError where
// `order` does not name each axis once.
Tensor permute(const Tensor& x, const std::vector<int>& order);

struct PermuteAttributes {
  std::array<int, Shape::max_rank> order{};
};
extern const OpDef permute_op;

}  // namespace parabola
