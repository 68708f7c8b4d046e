#include <algorithm>

#include "engine/core/thread_pool.h"
#include "engine/ops/conv2d/convolve.h"
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

// Every input pixel lies in one patch: that of ConvNeXt's stem and of what halves its images.
bool patches_fill(const ConvGeometry& g) {
  return g.stride > 1 && g.R == g.stride && g.S == g.stride && g.dilation == 1 && g.padding == 0 && g.groups == 1 &&
         g.H == g.Ho * g.R && g.W == g.Wo * g.S;
}

// Output pixels whose patches are made at once; 256 KiB of floats at most, where a patch is shorter than 4096.
Tiles patch_tiles(const ConvGeometry& g) {
  return {g.pixels(), std::clamp<int64_t>((int64_t{1} << 16) / std::max<int64_t>(1, g.depth()), 16, 256)};
}

// The patches' gradients dy W, whose rows are then put to where they lie in dx.
template <class T>
void gradient_of_patches(const ConvGeometry& g, const T* dy, const T* weight, T* dx, bool accumulate, T* workspace) {
  const int64_t depth = g.depth(), run = g.S * g.C;
  const Panels<T> kernel = pack_panels(depth, g.K, {weight, depth}, workspace);
  const Tiles tiles = patch_tiles(g);
  thread_pool().run(tiles.number(), [&](int64_t task, int worker) {
    const int64_t begin = tiles.begin(task), count = tiles.length(task);
    T* patches = workspace + padded(panel_elements(depth, g.K)) + worker * padded(tiles.size * depth);
    int64_t rows[256];
    for (int64_t i = 0; i < count; ++i) rows[i] = i * g.K;
    tile_product(count, depth, Patches<T>{dy + begin * g.K, rows, {1, 1}, {0, 0}, g.K}, kernel, patches, depth, false);
    for (int64_t i = 0; i < count * g.R; ++i, patches += run) {
      const int64_t pixel = begin + i / g.R, line = pixel / g.Wo * g.R + i % g.R;
      T* to = dx + (line * g.W + pixel % g.Wo * g.S) * g.C;
      for (int64_t c = 0; c < run; ++c) to[c] = accumulate ? to[c] + patches[c] : patches[c];
    }
  });
}

}  // namespace

int64_t input_gradient_workspace(const ConvGeometry& g) {
  if (patches_fill(g))
    return padded(panel_elements(g.depth(), g.K)) + thread_pool().threads() * padded(patch_tiles(g).size * g.depth());
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
  if (patches_fill(g)) return gradient_of_patches(g, dy, weight, dx, accumulate, workspace);
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

#define PARABOLA_INPUT_GRADIENT(T) template void input_gradient(const ConvGeometry&, const T*, const T*, T*, bool, T*);
PARABOLA_INPUT_GRADIENT(float)
PARABOLA_INPUT_GRADIENT(double)

}  // namespace parabola
