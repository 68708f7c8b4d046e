// The sizes of a convolution, checked once and used by every op of that family, depthwise and quadratic ones too.
#pragma once
#include <algorithm>
#include <string_view>

#include "engine/core/op.h"

namespace parabola {

// How a kernel moves over an image: alike for rows and columns, zeros around the image on all four sides.
struct ConvAttributes {
  int stride = 1, padding = 0, dilation = 1, groups = 1;
  bool operator==(const ConvAttributes&) const = default;
};

// y [N, Ho, Wo, K] = x [N, H, W, C] * weight [K, R, S, C / groups]: output pixel (i, j) sums, over taps (r, s), the
// weight times the input pixel (i * stride - padding + r * dilation, j * stride - padding + s * dilation).
struct ConvGeometry {
  int64_t N, H, W, C, K, R, S;
  int64_t stride, padding, dilation, groups;
  int64_t Ho, Wo;

  constexpr int64_t group_inputs() const { return C / groups; }
  constexpr int64_t group_outputs() const { return K / groups; }
  constexpr int64_t depth() const { return R * S * group_inputs(); }  // weights of one output channel
  constexpr int64_t weight_elements() const { return K * depth(); }
  constexpr int64_t image_pixels() const { return Ho * Wo; }  // output pixels of one image
  constexpr int64_t pixels() const { return N * Ho * Wo; }    // and of the batch
  Shape input_shape() const { return {N, H, W, C}; }
  Shape weight_shape() const { return {K, R, S, C / groups}; }
  Shape output_shape() const { return {N, Ho, Wo, K}; }
  // Of one pass: forward, input gradient or weight gradient; 2 per multiply-add, taps in the padding counted.
  double flops() const { return 2.0 * static_cast<double>(pixels()) * static_cast<double>(K * depth()); }
  bool operator==(const ConvGeometry&) const = default;
};

// The geometry of a convolution with K output channels and a kernel of R x S taps. Errors name `op`: ShapeError for an
// x that is not [N, H, W, C], channels that the groups do not divide, an image smaller than the kernel; UsageError for
// a stride, dilation or number of groups below 1 and a negative padding.
ConvGeometry conv_geometry(std::string_view op, const Shape& x, int64_t K, int64_t R, int64_t S,
                           const ConvAttributes& attributes);

// The same with K, R and S taken from weight [K, R, S, C / groups]; ShapeError where it does not fit x.
ConvGeometry conv_geometry(std::string_view op, const Shape& x, const Shape& weight, const ConvAttributes& attributes);

// The taps [begin, end) of one kernel axis that read inside of an image of `size` rows (or columns), where tap 0 reads
// at `first` = i * stride - padding and the next ones `step` = dilation further each. Empty: begin == end.
struct TapRange {
  int64_t begin, end;
};
constexpr TapRange taps_inside(int64_t first, int64_t step, int64_t taps, int64_t size) {
  const auto taps_below = [&](int64_t position) {  // how many taps read before `position`
    return position <= first ? 0 : std::min(taps, (position - first + step - 1) / step);
  };
  return {taps_below(0), taps_below(size)};
}

}  // namespace parabola
