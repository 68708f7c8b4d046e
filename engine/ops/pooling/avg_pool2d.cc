#include "engine/ops/pooling/avg_pool2d.h"

#include "engine/ops/column_stats.h"
#include "engine/ops/pixels.h"

namespace parabola {
namespace {

template <class T>
T share(const PoolGeometry& g, int64_t i, int64_t j) {
  return 1 / static_cast<T>(g.rows.divisor(i) * g.columns.divisor(j));
}

template <class T>
void forward(const PoolGeometry& g, const T* x, T* y) {
  const int64_t window = g.rows.inputs(0).length() * g.columns.inputs(0).length();
  parallel_for(g.output_pixels(), row_grain(g.C * window), [=](int64_t first, int64_t last) {
    for (int64_t pixel = first; pixel < last; ++pixel) {
      const auto [image, i, j] = place_of_pixel(pixel, g.rows.outputs, g.columns.outputs);
      const PixelRange rows = g.rows.inputs(i), columns = g.columns.inputs(j);
      const T scale = share<T>(g, i, j);
      T* sum = y + pixel * g.C;
      std::fill_n(sum, g.C, T(0));
      for (int64_t row = rows.begin; row < rows.end; ++row)
        for (int64_t column = columns.begin; column < columns.end; ++column) {
          const T* in = x + g.input(image, row, column) * g.C;
          for (int64_t c = 0; c < g.C; ++c) sum[c] += in[c];
        }
      for (int64_t c = 0; c < g.C; ++c) sum[c] *= scale;
    }
  });
}

template <class T>
void backward(const PoolGeometry& g, const T* dy, T* dx, bool accumulate) {
  parallel_for(g.input_pixels(), row_grain(g.C), [=](int64_t first, int64_t last) {
    for (int64_t pixel = first; pixel < last; ++pixel) {
      const auto [image, row, column] = place_of_pixel(pixel, g.rows.size, g.columns.size);
      const PixelRange rows = g.rows.outputs_of(row), columns = g.columns.outputs_of(column);
      T* to = dx + pixel * g.C;
      if (!accumulate) std::fill_n(to, g.C, T(0));
      for (int64_t i = rows.begin; i < rows.end; ++i)
        for (int64_t j = columns.begin; j < columns.end; ++j) {
          const T* from = dy + g.output(image, i, j) * g.C;
          const T scale = share<T>(g, i, j);
          for (int64_t c = 0; c < g.C; ++c) to[c] += scale * from[c];
        }
    }
  });
}

// Two ops that differ in where their windows are, by their attributes.
template <class Own>
constexpr const char* name = std::is_same_v<Own, PoolAttributes> ? "avg_pool2d" : "adaptive_avg_pool2d";

template <class Own>
PoolGeometry geometry_of(const Attributes& attributes, const Shape& x) {
  return pool_geometry(name<Own>, x, attributes.get<Own>());
}

template <class Own>
constexpr OpDef define() {
  return {
      .name = name<Own>,
      .layout =
          [](const Signature& s) {
            return Layout{.outputs = {{geometry_of<Own>(s.attributes, s.shape(0)).output_shape(), s.dtype()}}};
          },
      .cost = [](const Signature& s) { return pool_cost(s, geometry_of<Own>(s.attributes, s.shape(0)), 0); },
      .cpu = {[](const ForwardArgs& a) {
                dispatch_float(a.inputs[0].dtype, name<Own>, [&]<class T>() {
                  forward(geometry_of<Own>(a.attributes, a.inputs[0].shape), a.inputs[0].data<T>(),
                          a.outputs[0].data<T>());
                });
              },
              [](const BackwardArgs& a) {
                dispatch_float(a.output_gradients[0].dtype, name<Own>, [&]<class T>() {
                  backward(geometry_of<Own>(a.attributes, a.inputs[0].shape), a.output_gradients[0].data<T>(),
                           a.input_gradients[0].data<T>(), a.accumulates(0));
                });
              }},
  };
}

}  // namespace

const OpDef avg_pool2d_op = define<PoolAttributes>();
const OpDef adaptive_avg_pool2d_op = define<AdaptivePoolAttributes>();

Tensor avg_pool2d(const Tensor& x, const PoolAttributes& attributes) { return apply(avg_pool2d_op, {x}, attributes); }

Tensor adaptive_avg_pool2d(const Tensor& x, int64_t rows, int64_t columns) {
  return apply(adaptive_avg_pool2d_op, {x}, AdaptivePoolAttributes{rows, columns});
}

}  // namespace parabola
