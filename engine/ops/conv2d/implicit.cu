#include "engine/ops/conv2d/implicit.cuh"

#include <numeric>

#include "engine/blas/precision.h"
#include "engine/ops/conv2d/columns.cuh"
#include "engine/ops/conv2d/product_tiles.cuh"

namespace parabola {
namespace {

template <class T>
void multiply(DeviceStream stream, const PatchProduct& p, int phases, const T* x, const T* weight, const T* bias, T* y,
              bool accumulate) {
  with_product_tile<T>(int64_t{p.phases[0].grid.pixels()} * phases, p.groups, p.outputs, [&]<class Tile>() {
    launch_product<T, Tile>(stream, p, phases, x, weight, bias, y, accumulate);
  });
}

PatchPhase phase_of(const ConvGeometry& g, const Sampling& s, int row, int column) {
  PatchPhase phase{.grid = {s, g.groups}, .y_row = row, .y_column = column};
  phase.step = phase.grid.place(product_chunk);
  phase.first_weight = static_cast<int>((s.rows.tap_first * g.S + s.columns.tap_first) * g.group_inputs());
  return phase;
}

PatchProduct forward_product(const ConvGeometry& g) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  const int channels = i(g.group_inputs()), outputs = i(g.group_outputs()), depth = i(g.depth());
  return {.source = {i(g.H), i(g.W), i(g.C), channels, i(g.stride), i(g.dilation)},
          .groups = i(g.groups),
          .outputs = outputs,
          .weight_group = outputs * depth,
          .weight_output = depth,
          .weight_row = i(g.S) * channels,
          .weight_column = channels,
          .weight_channel = 1,
          .y_height = i(g.Ho),
          .y_width = i(g.Wo),
          .y_stride = 1,
          .phases = {phase_of(g, forward_sampling(g), 0, 0)}};
}

// Without phases yet. Of the taps of an axis, a phase has every `taps`-th, from the last one on.
PatchProduct input_gradient_product(const ConvGeometry& g) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  const int channels = i(g.group_inputs()), outputs = i(g.group_outputs()), depth = i(g.depth());
  const int common = i(std::gcd(g.stride, g.dilation)), taps = i(g.stride) / common;
  return {.source = {i(g.Ho), i(g.Wo), i(g.K), outputs, 1, i(g.dilation) / common},
          .groups = i(g.groups),
          .outputs = channels,
          .weight_group = outputs * depth,
          .weight_output = 1,
          .weight_row = -taps * i(g.S) * channels,
          .weight_column = -taps * channels,
          .weight_channel = depth,
          .y_height = i(g.H),
          .y_width = i(g.W),
          .y_stride = i(g.stride)};
}

}  // namespace

// A 1x1 convolution of stride 1 is a plain product. Tensor cores, which cuBLAS uses for TF32, make up for the columns
// where there are many channels. And elements are numbered in 32 bits.
template <class T>
bool without_columns(const ConvGeometry& g) {
  const int64_t most = std::max({g.N * g.H * g.W * g.C, g.pixels() * g.K, g.weight_elements()});
  const bool tensor_cores = sizeof(T) == 4 && tf32_allowed() && std::min(g.group_inputs(), g.group_outputs()) >= 128;
  return column_elements(g) != 0 && !tensor_cores && most <= 1 << 30;
}

template <class T>
void device_implicit_forward(DeviceStream stream, const ConvGeometry& g, const T* x, const T* weight, const T* bias,
                             T* y) {
  multiply(stream, forward_product(g), 1, x, weight, bias, y, false);
}

template <class T>
void device_implicit_input_gradient(DeviceStream stream, const ConvGeometry& g, const T* dy, const T* weight, T* dx,
                                    bool accumulate) {
  PatchProduct product = input_gradient_product(g);
  const int stride = static_cast<int>(g.stride), phases = stride * stride;
  for (int first = 0; first < phases; first += most_phases) {
    const int count = std::min(most_phases, phases - first);
    for (int i = 0; i < count; ++i) {
      const int row = (first + i) / stride, column = (first + i) % stride;
      product.phases[i] = phase_of(g, backward_sampling(g, row, column), row, column);
    }
    multiply<T>(stream, product, count, dy, weight, nullptr, dx, accumulate);
  }
}

#define PARABOLA_IMPLICIT(T)                                                                                  \
  template bool without_columns<T>(const ConvGeometry&);                                                      \
  template void device_implicit_forward(DeviceStream, const ConvGeometry&, const T*, const T*, const T*, T*); \
  template void device_implicit_input_gradient(DeviceStream, const ConvGeometry&, const T*, const T*, T*, bool);
PARABOLA_IMPLICIT(float)
PARABOLA_IMPLICIT(double)

}  // namespace parabola
