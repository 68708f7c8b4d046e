#pragma once
#include <array>
#include <vector>

#include "engine/core/op.h"

namespace parabola {

// x with before[i] zeros in front of axis i and after[i] behind it; one number for every axis, none negative, else
// ShapeError. Nothing is kept for backward: dx is the inner part of dy. Recomputed by default.
Tensor pad(const Tensor& x, const std::vector<int64_t>& before, const std::vector<int64_t>& after);

struct PadAttributes {
  std::array<int64_t, Shape::max_rank> before{}, after{};
};
extern const OpDef pad_op;

}  // namespace parabola
