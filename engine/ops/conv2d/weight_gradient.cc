#include <algorithm>

#include "engine/core/thread_pool.h"
#include "engine/ops/conv2d/convolve.h"
#include "engine/ops/conv2d/winograd.h"

namespace parabola {
namespace {

// Partial sums of the weight gradient: at most 32, and some 4 MiB of floats in all, but 4 for the sake of threads.
int64_t affordable_parts(const ConvGeometry& g, const PixelTiles& tiles) {
  const int64_t affordable = (int64_t{1} << 20) / std::max<int64_t>(1, g.weight_elements());
  const int64_t most = winograd::applies(g) ? winograd::most_parts(g, tiles) : 32;
  return std::min(tiles.number(), std::clamp<int64_t>(affordable, 4, most));
}

// The tiles of each; sometimes a few parts less than affordable_parts() suffice.
Tiles weight_parts(const ConvGeometry& g, const PixelTiles& tiles) {
  const int64_t parts = std::max<int64_t>(1, affordable_parts(g, tiles));
  return {tiles.number(), std::max<int64_t>(1, (tiles.number() + parts - 1) / parts)};
}

int64_t worker_elements(const ConvGeometry& g, const PixelTiles& tiles) {
  return padded(winograd::applies(g) ? winograd::gradient_scratch_elements(g, tiles)
                                     : strip_elements(forward_sampling(g), tiles, g.group_inputs()));
}

// Tiles [first, last).
template <class T>
void gradient_from_patches(const ConvGeometry& g, const PixelTiles& tiles, int64_t first, int64_t last, const T* x,
                           const T* dy, T* dw, T* strip) {
  const Sampling s = forward_sampling(g);
  const int64_t outputs = g.group_outputs(), inputs = g.group_inputs(), depth = g.depth();
  for (int64_t index = first; index < last; ++index) {
    const int64_t begin = tiles.begin(index), end = tiles.end(index);
    for (int64_t group = 0; group < g.groups; ++group) {
      const int64_t k = group * outputs;
      const Factor<T> gradients{dy + begin * g.K + k, g.K, true};
      T* sums = dw + k * depth;
      if (s.identity()) {  // read in x itself, which has no margin
        const Factor<T> pixels{x + begin * g.C + group * inputs, g.C};
        tile_product(outputs, depth, end - begin, gradients, pixels, sums, depth, index > first);
      } else {
        const TilePatches<T> tile(s, x, group * inputs, inputs, begin, end, strip);
        tile_product(outputs, end - begin, gradients, tile.patches(), sums, depth, index > first);
      }
    }
  }
}

}  // namespace

int64_t weight_gradient_workspace(const ConvGeometry& g) {
  const PixelTiles tiles = output_tiles(g);
  return affordable_parts(g, tiles) * g.weight_elements() + thread_pool().threads() * worker_elements(g, tiles);
}

template <class T>
void weight_gradient(const ConvGeometry& g, ConvInputOf<T> x, const T* dy, T* dw, bool accumulate, T* workspace) {
  PARABOLA_ASSERT(!x.mean || reads_normed(g));
  const PixelTiles tiles = output_tiles(g);
  const Tiles parts = weight_parts(g, tiles);
  const int64_t size = g.weight_elements(), scratch = worker_elements(g, tiles);
  const int64_t chunks = winograd::applies(g) ? winograd::gradient_chunks(g, tiles) : 1;
  thread_pool().run(parts.number() * chunks, [&](int64_t task, int worker) {
    const int64_t part = task / chunks, first = parts.begin(part), last = parts.end(part);
    T *sums = workspace + part * size, *mine = workspace + parts.number() * size + worker * scratch;
    if (winograd::applies(g))
      winograd::weight_gradient_part(g, tiles, first, last, task % chunks, x, dy, sums, mine);
    else
      gradient_from_patches(g, tiles, first, last, x.x, dy, sums, mine);
  });
  add_parts(workspace, parts.number(), size, dw, accumulate);
}

#define PARABOLA_WEIGHT_GRADIENT(T) \
  template void weight_gradient(const ConvGeometry&, ConvInputOf<T>, const T*, T*, bool, T*);
PARABOLA_WEIGHT_GRADIENT(float)
PARABOLA_WEIGHT_GRADIENT(double)

}  // namespace parabola
