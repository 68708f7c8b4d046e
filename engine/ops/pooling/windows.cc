#include "engine/ops/pooling/windows.h"

namespace parabola {
namespace {

void require_image(std::string_view op, const Shape& x) {
  if (x.rank() != 4 || x[1] < 1 || x[2] < 1)
    fail<ShapeError>(op, "input: got ", x, ", expected [N, H, W, C] with at least one pixel");
}

// Pixels of all windows along an axis.
double covered(const PoolAxis& axis) {
  int64_t pixels = 0;
  for (int64_t i = 0; i < axis.outputs; ++i) pixels += axis.inputs(i).length();
  return static_cast<double>(pixels);
}

}  // namespace

PoolGeometry pool_geometry(std::string_view op, const Shape& x, const PoolAttributes& a) {
  require_image(op, x);
  if (a.kernel < 1 || a.stride < 0 || a.padding < 0 || a.padding > a.kernel / 2)
    fail<UsageError>(op, "got kernel ", a.kernel, ", stride ", a.stride, " and padding ", a.padding,
                     ", expected a kernel of at least 1, no negative stride and a padding of at most half the kernel");
  const int64_t kernel = a.kernel, stride = a.stride ? a.stride : kernel, padding = a.padding;
  const auto axis = [&](int64_t size) {
    const int64_t room = size + 2 * padding - kernel + (a.ceil_mode ? stride - 1 : 0);
    if (room < 0)
      fail<ShapeError>(op, "kernel: got ", kernel, " x ", kernel, " on ", x, " with padding ", padding,
                       ", expected an image not smaller than the kernel");
    PoolAxis windows{size, room / stride + 1, kernel, stride, padding, a.count_include_pad};
    if (windows.start(windows.outputs - 1) >= size) --windows.outputs;  // it would see nothing but padding
    return windows;
  };
  return {x[0], x[3], axis(x[1]), axis(x[2])};
}

PoolGeometry pool_geometry(std::string_view op, const Shape& x, const AdaptivePoolAttributes& a) {
  require_image(op, x);
  if (a.rows < 1 || a.columns < 1)
    fail<UsageError>(op, "got ", a.rows, " x ", a.columns, " outputs, expected at least one");
  return {x[0], x[3], {x[1], a.rows}, {x[2], a.columns}};
}

StepCost pool_cost(const Signature& s, const PoolGeometry& g, double kept) {
  const double flops = covered(g.rows) * covered(g.columns) * static_cast<double>(g.N * g.C);
  const double x = static_cast<double>(s.inputs[0].bytes());
  const double y = static_cast<double>(g.output_pixels() * g.C) * static_cast<double>(size_of(s.dtype()));
  return {{flops, x, y}, {flops, y + kept, x}};
}

}  // namespace parabola
