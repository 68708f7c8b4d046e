// image_map.h on CUDA: a thread to a channel of a pixel.
#pragma once
#include "engine/ops/pixels.cuh"

namespace parabola {

template <class T, class Axis>
__global__ void image_map_forward(ImageMap<Axis> map, PixelFinder outputs, const T* x, T* y) {
  using Real = Compute<T>;
  const int64_t c = thread_index();
  if (c >= map.C) return;
  for (int64_t pixel = thread_row(); pixel < map.output_pixels(); pixel += row_count()) {
    const auto [image, i, j] = outputs.at(pixel);
    const PixelRange rows = map.rows.inputs(i), columns = map.columns.inputs(j);
    Real sum = 0;
    for (int64_t row = rows.begin; row < rows.end; ++row)
      for (int64_t column = columns.begin; column < columns.end; ++column) {
        const Real weight = map.rows.template weight<Real>(i, row) * map.columns.template weight<Real>(j, column);
        sum = std::fma(weight, Real(x[map.input(image, row, column) * map.C + c]), sum);
      }
    y[pixel * map.C + c] = T(sum);
  }
}

template <class T, class Axis>
__global__ void image_map_backward(ImageMap<Axis> map, PixelFinder inputs, const T* dy, T* dx, bool accumulate) {
  using Real = Compute<T>;
  const int64_t c = thread_index();
  if (c >= map.C) return;
  for (int64_t pixel = thread_row(); pixel < map.input_pixels(); pixel += row_count()) {
    const auto [image, row, column] = inputs.at(pixel);
    const PixelRange rows = map.rows.outputs_of(row), columns = map.columns.outputs_of(column);
    Real d = accumulate ? Real(dx[pixel * map.C + c]) : 0;
    for (int64_t i = rows.begin; i < rows.end; ++i)
      for (int64_t j = columns.begin; j < columns.end; ++j) {
        const Real weight = map.rows.template weight<Real>(i, row) * map.columns.template weight<Real>(j, column);
        d = std::fma(weight, Real(dy[map.output(image, i, j) * map.C + c]), d);
      }
    dx[pixel * map.C + c] = T(d);
  }
}

template <class Axis, class T>
void device_map_image(DeviceStream stream, const ImageMap<Axis>& map, const T* x, T* y) {
  launch_on_columns(image_map_forward<T, Axis>, stream, map.output_pixels(), map.C, map,
                    PixelFinder(map.rows.outputs, map.columns.outputs), x, y);
}

template <class Axis, class T>
void device_map_image_backward(DeviceStream stream, const ImageMap<Axis>& map, const T* dy, T* dx, bool accumulate) {
  launch_on_columns(image_map_backward<T, Axis>, stream, map.input_pixels(), map.C, map,
                    PixelFinder(map.rows.size, map.columns.size), dy, dx, accumulate);
}

}  // namespace parabola
