#include "engine/ops/conv2d/geometry.h"

namespace parabola {

ConvGeometry conv_geometry(std::string_view op, const Shape& x, int64_t K, int64_t R, int64_t S,
                           const ConvAttributes& attributes) {
  const auto [stride, padding, dilation, groups] = attributes;
  if (x.rank() != 4) fail<ShapeError>(op, "input: got ", x, ", expected [N, H, W, C]");
  if (stride < 1 || dilation < 1 || groups < 1 || padding < 0)
    fail<UsageError>(op, "got stride ", stride, ", dilation ", dilation, ", groups ", groups, " and padding ", padding,
                     ", expected the first three at least 1 and padding at least 0");
  if (x[3] % groups != 0 || K % groups != 0)
    fail<ShapeError>(op, "groups: got ", groups, " groups, expected a divisor of ", x[3], " input and ", K,
                     " output channels");
  const auto outputs = [&, p = int64_t{padding}, d = int64_t{dilation}, s = int64_t{stride}](int64_t size,
                                                                                             int64_t taps) {
    const int64_t room = size + 2 * p - d * (taps - 1) - 1;
    if (taps < 1 || room < 0)
      fail<ShapeError>(op, "kernel: got ", R, " x ", S, " taps with dilation ", d, " on ", x, " with padding ", p,
                       ", expected at least one tap and an image not smaller than the kernel");
    return room / s + 1;
  };
  return {.N = x[0],
          .H = x[1],
          .W = x[2],
          .C = x[3],
          .K = K,
          .R = R,
          .S = S,
          .stride = stride,
          .padding = padding,
          .dilation = dilation,
          .groups = groups,
          .Ho = outputs(x[1], R),
          .Wo = outputs(x[2], S)};
}

ConvGeometry conv_geometry(std::string_view op, const Shape& x, const Shape& weight, const ConvAttributes& attributes) {
  if (weight.rank() != 4) fail<ShapeError>(op, "weight: got ", weight, ", expected [K, R, S, C / groups]");
  const ConvGeometry g = conv_geometry(op, x, weight[0], weight[1], weight[2], attributes);
  if (weight != g.weight_shape())
    fail<ShapeError>(op, "weight: got ", weight, " for an input of ", g.C, " channels in ", g.groups,
                     g.groups == 1 ? " group" : " groups", ", expected ", g.weight_shape());
  return g;
}

}  // namespace parabola
