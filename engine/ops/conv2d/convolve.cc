#include "engine/ops/conv2d/convolve.h"

#include <algorithm>

#include "engine/core/thread_pool.h"
#include "engine/ops/conv2d/winograd.h"

namespace parabola {
namespace {

// The kernel as one phase of the transposed convolution multiplies with it: [group][tap][k][c].
template <class T>
void reorder_weight(const ConvGeometry& g, const Sampling& s, const T* weight, T* reordered) {
  const int64_t outputs = g.group_outputs(), inputs = g.group_inputs(), depth = s.taps() * outputs;
  parallel_for(g.groups * depth, 256, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t group = row / depth, tap = row % depth / outputs, k = group * outputs + row % outputs;
      const int64_t r = s.rows.tap_first + tap / s.columns.taps * s.rows.tap_step;
      const int64_t q = s.columns.tap_first + tap % s.columns.taps * s.columns.tap_step;
      std::copy_n(weight + ((k * g.R + r) * g.S + q) * inputs, inputs, reordered + row * inputs);
    }
  });
}

// Puts a tile of one phase, [pixels, channels], to where its pixels lie in dx.
template <class T>
void place_phase(const ConvGeometry& g, const Sampling& s, int64_t row, int64_t column, int64_t begin, int64_t end,
                 const T* tile, int64_t channel, int64_t channels, bool accumulate, T* dx) {
  for (int64_t pixel = begin; pixel < end; ++pixel, tile += channels) {
    const int64_t j = pixel % s.columns.grid, i = pixel / s.columns.grid % s.rows.grid, image = pixel / s.grid();
    T* to = dx + ((image * g.H + row + i * g.stride) * g.W + column + j * g.stride) * g.C + channel;
    for (int64_t c = 0; c < channels; ++c) to[c] = accumulate ? to[c] + tile[c] : tile[c];
  }
}

}  // namespace

PixelTiles output_tiles(const ConvGeometry& g) {
  if (winograd::applies(g)) return winograd::output_tiles(g);
  return {forward_sampling(g), g.depth()};
}

int64_t packed_weight_elements(const ConvGeometry& g) {
  if (winograd::applies(g)) return winograd::packed_weight_elements(g);
  return g.groups * padded(panel_elements(g.group_outputs(), g.depth()));
}

template <class T>
void pack_weight(const ConvGeometry& g, const T* weight, T* packed) {
  if (winograd::applies(g)) return winograd::pack_weight(g, weight, false, packed);
  const int64_t outputs = g.group_outputs(), depth = g.depth(), size = padded(panel_elements(outputs, depth));
  for (int64_t group = 0; group < g.groups; ++group)
    pack_panels(outputs, depth, {weight + group * outputs * depth, depth, true}, packed + group * size);
}

int64_t tile_scratch_elements(const ConvGeometry& g, const PixelTiles& tiles) {
  return padded(winograd::applies(g) ? winograd::tile_scratch_elements(g, tiles)
                                     : strip_elements(forward_sampling(g), tiles, g.group_inputs()));
}

template <class T>
void convolve_tile(const ConvGeometry& g, const T* x, int64_t begin, int64_t end,
                   std::initializer_list<TileMap<T>> maps, T* scratch) {
  if (winograd::applies(g)) return winograd::convolve_tile(g, x, begin, end, maps, scratch);
  const Sampling sampling = forward_sampling(g);
  const int64_t inputs = g.group_inputs(), depth = g.depth();
  for (int64_t group = 0; group < g.groups; ++group) {
    const TilePatches<T> tile(sampling, x, group * inputs, inputs, begin, end, scratch);
    for (const TileMap<T>& map : maps) {
      const int64_t outputs = map.group_outputs, k = group * outputs;
      const Panels<T> weight{map.packed_weight + group * padded(panel_elements(outputs, depth)), depth};
      tile_product(end - begin, outputs, tile.patches(), weight, map.y + k, map.stride, map.accumulate,
                   map.bias ? map.bias + k : nullptr);
    }
  }
}

int64_t convolve_workspace(const ConvGeometry& g) {
  return packed_weight_elements(g) + thread_pool().threads() * tile_scratch_elements(g, output_tiles(g));
}

namespace {

// All tiles, with the weight packed at the workspace's beginning.
template <class T>
void convolve_packed(const ConvGeometry& g, const T* x, const T* bias, T* y, bool accumulate, T* workspace) {
  const PixelTiles tiles = output_tiles(g);
  const int64_t scratch = tile_scratch_elements(g, tiles);
  thread_pool().run(tiles.number(), [&](int64_t tile, int worker) {
    const int64_t begin = tiles.begin(tile);
    convolve_tile(g, x, begin, tiles.end(tile),
                  {{workspace, bias, g.group_outputs(), y + begin * g.K, g.K, accumulate}},
                  workspace + packed_weight_elements(g) + worker * scratch);
  });
}

}  // namespace

template <class T>
void convolve(const ConvGeometry& g, const T* x, const T* weight, const T* bias, T* y, T* workspace) {
  pack_weight(g, weight, workspace);
  convolve_packed(g, x, bias, y, false, workspace);
}

int64_t input_gradient_workspace(const ConvGeometry& g) {
  if (winograd::applies(g)) return convolve_workspace(winograd::turned(g));
  int64_t per_worker = 0, weights = 0;
  for (int64_t row = 0; row < g.stride; ++row)
    for (int64_t column = 0; column < g.stride; ++column) {
      const Sampling s = backward_sampling(g, row, column);
      const int64_t depth = s.taps() * g.group_outputs();
      const PixelTiles tiles(s, depth);
      const int64_t tile = g.stride == 1 ? 0 : padded(tiles.size * g.group_inputs());
      per_worker = std::max(per_worker, padded(strip_elements(s, tiles, g.group_outputs())) + tile);
      weights = std::max(weights, g.groups * padded(panel_elements(g.group_inputs(), depth)));
    }
  return padded(g.weight_elements()) + weights + thread_pool().threads() * per_worker;
}

template <class T>
void input_gradient(const ConvGeometry& g, const T* dy, const T* weight, T* dx, bool accumulate, T* workspace) {
  if (winograd::applies(g)) {
    const ConvGeometry turned = winograd::turned(g);
    winograd::pack_weight(turned, weight, true, workspace);
    return convolve_packed<T>(turned, dy, nullptr, dx, accumulate, workspace);
  }
  const int64_t outputs = g.group_outputs(), inputs = g.group_inputs();
  T *reordered = workspace, *packed = workspace + padded(g.weight_elements());
  for (int64_t row = 0; row < g.stride; ++row)
    for (int64_t column = 0; column < g.stride; ++column) {
      const Sampling s = backward_sampling(g, row, column);
      const int64_t depth = s.taps() * outputs, panels = padded(panel_elements(inputs, depth));
      const PixelTiles tiles(s, depth);
      const int64_t strip_size = padded(strip_elements(s, tiles, outputs));
      const int64_t tile_elements = g.stride == 1 ? 0 : padded(tiles.size * inputs);
      T* scratch = packed + g.groups * panels;
      reorder_weight(g, s, weight, reordered);
      for (int64_t group = 0; group < g.groups; ++group)
        pack_panels(inputs, depth, {reordered + group * depth * inputs, inputs}, packed + group * panels);
      thread_pool().run(tiles.number(), [&](int64_t index, int worker) {
        T *strip = scratch + worker * (strip_size + tile_elements), *part = strip + strip_size;
        const int64_t begin = tiles.begin(index), end = tiles.end(index);
        for (int64_t group = 0; group < g.groups; ++group) {
          const TilePatches<T> tile(s, dy, group * outputs, outputs, begin, end, strip);
          const Panels<T> kernel{packed + group * panels, depth};
          const int64_t channel = group * inputs;
          if (g.stride == 1) {
            tile_product(end - begin, inputs, tile.patches(), kernel, dx + begin * g.C + channel, g.C, accumulate);
          } else {
            tile_product(end - begin, inputs, tile.patches(), kernel, part, inputs, false);
            place_phase(g, s, row, column, begin, end, part, channel, inputs, accumulate, dx);
          }
        }
      });
    }
}

#define PARABOLA_CONVOLVE(T)                                                                                           \
  template void pack_weight(const ConvGeometry&, const T*, T*);                                                        \
  template void convolve_tile(const ConvGeometry&, const T*, int64_t, int64_t, std::initializer_list<TileMap<T>>, T*); \
  template void convolve(const ConvGeometry&, const T*, const T*, const T*, T*, T*);                                   \
  template void input_gradient(const ConvGeometry&, const T*, const T*, T*, bool, T*);
PARABOLA_CONVOLVE(float)
PARABOLA_CONVOLVE(double)

}  // namespace parabola
