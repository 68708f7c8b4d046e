#include "engine/ops/conv2d/convolve.h"

#include <algorithm>

#include "engine/core/thread_pool.h"
#include "engine/ops/conv2d/winograd.h"

namespace parabola {

bool reads_normed(const ConvGeometry& g) { return winograd::applies(g); }

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
void convolve_tile(const ConvGeometry& g, ConvInputOf<T> x, int64_t begin, int64_t end,
                   std::initializer_list<TileMap<T>> maps, T* scratch) {
  if (winograd::applies(g)) return winograd::convolve_tile(g, x, begin, end, maps, scratch);
  PARABOLA_ASSERT(!x.mean);
  const Sampling sampling = forward_sampling(g);
  const int64_t inputs = g.group_inputs(), depth = g.depth();
  // A tile of Winograd's windows, of another convolution of x, may be longer than TilePatches takes: equal parts of it.
  const int64_t parts = (end - begin + PixelTiles::usual - 1) / PixelTiles::usual;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = begin + (end - begin) * part / parts, last = begin + (end - begin) * (part + 1) / parts;
    for (int64_t group = 0; group < g.groups; ++group) {
      const TilePatches<T> tile(sampling, x.x, group * inputs, inputs, first, last, scratch);
      for (const TileMap<T>& map : maps) {
        const int64_t outputs = map.group_outputs;
        const Panels<T> weight{map.packed_weight + group * padded(panel_elements(outputs, depth)), depth};
        tile_product(last - first, outputs, tile.patches(), weight,
                     map.y + (first - begin) * map.stride + group * outputs, map.stride, map.accumulate,
                     map.bias ? map.bias + group * outputs : nullptr);
      }
    }
  }
}

int64_t convolve_workspace(const ConvGeometry& g) {
  return packed_weight_elements(g) + thread_pool().threads() * tile_scratch_elements(g, output_tiles(g));
}

template <class T>
void convolve_packed(const ConvGeometry& g, ConvInputOf<T> x, const T* bias, T* y, bool accumulate, T* workspace) {
  const PixelTiles tiles = output_tiles(g);
  const int64_t scratch = tile_scratch_elements(g, tiles);
  thread_pool().run(tiles.number(), [&](int64_t tile, int worker) {
    const int64_t begin = tiles.begin(tile);
    convolve_tile<T>(g, x, begin, tiles.end(tile),
                     {{workspace, bias, g.group_outputs(), y + begin * g.K, g.K, accumulate}},
                     workspace + packed_weight_elements(g) + worker * scratch);
  });
}

template <class T>
void convolve(const ConvGeometry& g, ConvInputOf<T> x, const T* weight, const T* bias, T* y, T* workspace) {
  pack_weight(g, weight, workspace);
  convolve_packed(g, x, bias, y, false, workspace);
}

#define PARABOLA_CONVOLVE(T)                                                                  \
  template void pack_weight(const ConvGeometry&, const T*, T*);                               \
  template void convolve_tile(const ConvGeometry&, ConvInputOf<T>, int64_t, int64_t,          \
                              std::initializer_list<TileMap<T>>, T*);                         \
  template void convolve_packed(const ConvGeometry&, ConvInputOf<T>, const T*, T*, bool, T*); \
  template void convolve(const ConvGeometry&, ConvInputOf<T>, const T*, const T*, T*, T*);
PARABOLA_CONVOLVE(float)
PARABOLA_CONVOLVE(double)

}  // namespace parabola
