#include "engine/ops/pooling/max_pool2d.h"

#include <limits>

#include "engine/ops/column_stats.h"
#include "engine/ops/maximum.h"
#include "engine/ops/pixels.h"

namespace parabola {
namespace {

PoolGeometry geometry_of(const Attributes& attributes, const Shape& x) {
  const PoolGeometry g = pool_geometry("max_pool2d", x, attributes.get<PoolAttributes>());
  if (g.columns.kernel > 16)
    fail<UsageError>("max_pool2d", "got a kernel of ", g.columns.kernel,
                     ", expected at most 16: what is kept is a byte");
  return g;
}

template <class T>
void forward(const ForwardArgs& args) {
  const PoolGeometry g = geometry_of(args.attributes, args.inputs[0].shape);
  const T* x = args.inputs[0].data<T>();
  T* y = args.outputs[0].data<T>();
  uint8_t* taps = args.auxiliary[0].data<uint8_t>();
  parallel_for(g.output_pixels(), row_grain(g.C * g.rows.kernel * g.columns.kernel), [=](int64_t first, int64_t last) {
    for (int64_t pixel = first; pixel < last; ++pixel) {
      const auto [image, i, j] = place_of_pixel(pixel, g.rows.outputs, g.columns.outputs);
      const PixelRange rows = g.rows.inputs(i), columns = g.columns.inputs(j);
      T* largest = y + pixel * g.C;
      uint8_t* where = taps + pixel * g.C;
      const int64_t channels = g.C;  // a local, since bytes may alias what a lambda holds
      std::fill_n(largest, g.C, -std::numeric_limits<T>::infinity());
      std::fill_n(where, g.C, static_cast<uint8_t>(g.tap(i, j, rows.begin, columns.begin)));
      for (int64_t row = rows.begin; row < rows.end; ++row)
        for (int64_t column = columns.begin; column < columns.end; ++column) {
          const T* in = x + g.input(image, row, column) * g.C;
          const auto tap = static_cast<uint8_t>(g.tap(i, j, row, column));
          for (int64_t c = 0; c < channels; ++c) {
            const bool larger = exceeds(in[c], largest[c]);
            largest[c] = larger ? in[c] : largest[c];
            where[c] = larger ? tap : where[c];
          }
        }
    }
  });
}

// An input pixel asks all windows over it whether it was their largest.
template <class T>
void backward(const BackwardArgs& args) {
  const PoolGeometry g = geometry_of(args.attributes, args.inputs[0].shape);
  const T* dy = args.output_gradients[0].data<T>();
  const uint8_t* taps = args.auxiliary[0].data<uint8_t>();
  T* dx = args.input_gradients[0].data<T>();
  const bool accumulate = args.accumulates(0);
  parallel_for(g.input_pixels(), row_grain(g.C), [=](int64_t first, int64_t last) {
    for (int64_t pixel = first; pixel < last; ++pixel) {
      const auto [image, row, column] = place_of_pixel(pixel, g.rows.size, g.columns.size);
      const PixelRange rows = g.rows.outputs_of(row), columns = g.columns.outputs_of(column);
      T* to = dx + pixel * g.C;
      if (!accumulate) std::fill_n(to, g.C, T(0));
      for (int64_t i = rows.begin; i < rows.end; ++i)
        for (int64_t j = columns.begin; j < columns.end; ++j) {
          const int64_t from = g.output(image, i, j) * g.C, tap = g.tap(i, j, row, column);
          for (int64_t c = 0; c < g.C; ++c) to[c] += taps[from + c] == tap ? dy[from + c] : T(0);
        }
    }
  });
}

Layout layout(const Signature& s) {
  const Shape y = geometry_of(s.attributes, s.shape(0)).output_shape();
  return {.outputs = {{y, s.dtype()}}, .auxiliary = {{y, DType::u8}}};
}

StepCost cost(const Signature& s) {
  const PoolGeometry g = geometry_of(s.attributes, s.shape(0));
  return pool_cost(s, g, static_cast<double>(g.output_pixels() * g.C));
}

}  // namespace

const OpDef max_pool2d_op = {
    .name = "max_pool2d",
    .layout = layout,
    .cost = cost,
    .needs = [](const Signature&) { return Needs{.auxiliary = 1}; },
    .cpu = {[](const ForwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "max_pool2d", [&]<class T>() { forward<T>(a); });
            },
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, "max_pool2d", [&]<class T>() { backward<T>(a); });
            }},
};

Tensor max_pool2d(const Tensor& x, const PoolAttributes& attributes) { return apply(max_pool2d_op, {x}, attributes); }

}  // namespace parabola
