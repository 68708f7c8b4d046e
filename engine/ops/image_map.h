// Images whose pixels are weighted sums of another image's: average pooling, interpolation. An output's weights are
// products of one for its row and one for its column, axis.weight<T>(i, p): the share of pixel p in output i.
#pragma once
#include "engine/ops/column_stats.h"
#include "engine/ops/pixels.h"

namespace parabola {

template <class Axis, class T>
void map_image(const ImageMap<Axis>& map, const T* x, T* y) {
  const int64_t taps = map.rows.inputs(0).length() * map.columns.inputs(0).length();
  parallel_for(map.output_pixels(), row_grain(map.C * taps), [=](int64_t first, int64_t last) {
    for (int64_t pixel = first; pixel < last; ++pixel) {
      const auto [image, i, j] = place_of_pixel(pixel, map.rows.outputs, map.columns.outputs);
      const PixelRange rows = map.rows.inputs(i), columns = map.columns.inputs(j);
      T* to = y + pixel * map.C;
      std::fill_n(to, map.C, T(0));
      for (int64_t row = rows.begin; row < rows.end; ++row)
        for (int64_t column = columns.begin; column < columns.end; ++column) {
          const T weight = map.rows.template weight<T>(i, row) * map.columns.template weight<T>(j, column);
          const T* from = x + map.input(image, row, column) * map.C;
          for (int64_t c = 0; c < map.C; ++c) to[c] = std::fma(weight, from[c], to[c]);
        }
    }
  });
}

// A pixel collects from all outputs that it is a part of.
template <class Axis, class T>
void map_image_backward(const ImageMap<Axis>& map, const T* dy, T* dx, bool accumulate) {
  parallel_for(map.input_pixels(), row_grain(map.C), [=](int64_t first, int64_t last) {
    for (int64_t pixel = first; pixel < last; ++pixel) {
      const auto [image, row, column] = place_of_pixel(pixel, map.rows.size, map.columns.size);
      const PixelRange rows = map.rows.outputs_of(row), columns = map.columns.outputs_of(column);
      T* to = dx + pixel * map.C;
      if (!accumulate) std::fill_n(to, map.C, T(0));
      for (int64_t i = rows.begin; i < rows.end; ++i)
        for (int64_t j = columns.begin; j < columns.end; ++j) {
          const T weight = map.rows.template weight<T>(i, row) * map.columns.template weight<T>(j, column);
          const T* from = dy + map.output(image, i, j) * map.C;
          for (int64_t c = 0; c < map.C; ++c) to[c] = std::fma(weight, from[c], to[c]);
        }
    }
  });
}

// A multiply-add for each pixel of each output. Nothing is kept.
template <class Axis>
StepCost map_image_cost(const ImageMap<Axis>& map, DType dtype) {
  const auto taps = [](const Axis& axis) {
    int64_t count = 0;
    for (int64_t i = 0; i < axis.outputs; ++i) count += axis.inputs(i).length();
    return static_cast<double>(count);
  };
  const double flops = 2 * taps(map.rows) * taps(map.columns) * static_cast<double>(map.N * map.C);
  const double x = static_cast<double>(map.input_pixels() * map.C) * static_cast<double>(size_of(dtype));
  const double y = static_cast<double>(map.output_pixels() * map.C) * static_cast<double>(size_of(dtype));
  return {{flops, x, y}, {flops, y, x}};
}

}  // namespace parabola
