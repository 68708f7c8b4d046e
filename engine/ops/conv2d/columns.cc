#include "engine/ops/conv2d/columns.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace parabola {
namespace {

SampledAxis backward_axis(const ConvGeometry& g, int64_t size, int64_t outputs, int64_t kernel, int64_t phase) {
  SampledAxis axis{.grid = (size - phase + g.stride - 1) / g.stride,
                   .source = outputs,
                   .stride = 1,
                   .first = 0,
                   .step = 1,
                   .taps = 0};
  const int64_t common = std::gcd(g.stride, g.dilation), period = g.stride / common;
  int64_t tap = 0;
  while (tap < std::min(kernel, period) && (phase + g.padding - tap * g.dilation) % g.stride != 0) ++tap;
  if (tap >= std::min(kernel, period)) return axis;
  axis.taps = (kernel - tap + period - 1) / period;
  axis.step = g.dilation / common;
  // The last kernel row reads first: positions then ascend, as forward.
  axis.tap_first = tap + (axis.taps - 1) * period;
  axis.tap_step = -period;
  axis.first = (phase + g.padding - axis.tap_first * g.dilation) / g.stride;
  return axis;
}

// memcpy by whole vectors where it can be: rows are a few of them, and a call of the library costs as much as the copy.
template <class T>
inline void copy_run(const T* from, int64_t count, T* to) {
  constexpr int64_t vector = 64 / sizeof(T);
  int64_t i = 0;
  for (; i + vector <= count; i += vector) std::memcpy(to + i, from + i, 64);
  for (; i < count; ++i) to[i] = from[i];
}

// What `count` pixels from column j of the grid on read of one source row: one run for each, `stride` apart in `to`.
template <class T>
void sample_row(const Sampling& s, const T* row, int64_t channels, int64_t j, int64_t count, T* to, int64_t stride) {
  const SampledAxis& across = s.columns;
  const bool side_by_side = across.step == 1 && channels == s.channels;  // a pixel's taps: one copy for all of them
  const int64_t width = across.taps * channels, last_tap = (across.taps - 1) * across.step;
  for (int64_t n = 0; n < count; ++n, to += stride) {
    const int64_t w = (j + n) * across.stride + across.first;
    TapRange inside{0, across.taps};
    if (w < 0 || w + last_tap >= across.source) {
      inside = taps_inside(w, across.step, across.taps, across.source);
      std::fill_n(to, width, T(0));
    }
    if (side_by_side) {
      copy_run(row + (w + inside.begin) * channels, (inside.end - inside.begin) * channels,
               to + inside.begin * channels);
    } else {
      for (int64_t u = inside.begin; u < inside.end; ++u)
        copy_run(row + (w + u * across.step) * s.channels, channels, to + u * channels);
    }
  }
}

}  // namespace

bool Sampling::identity() const {
  const auto same = [](const SampledAxis& a) {
    return a.grid == a.source && a.stride == 1 && a.first == 0 && a.taps == 1;
  };
  return same(rows) && same(columns);
}

Sampling forward_sampling(const ConvGeometry& g) {
  return {
      g.N, g.C, {g.Ho, g.H, g.stride, -g.padding, g.dilation, g.R}, {g.Wo, g.W, g.stride, -g.padding, g.dilation, g.S}};
}

Sampling backward_sampling(const ConvGeometry& g, int64_t row, int64_t column) {
  return {g.N, g.K, backward_axis(g, g.H, g.Ho, g.R, row), backward_axis(g, g.W, g.Wo, g.S, column)};
}

PixelTiles::PixelTiles(const Sampling& sampling, int64_t depth) : images(sampling.images), grid(sampling.grid()) {
  const int64_t limit = std::clamp<int64_t>((1 << 16) / std::max<int64_t>(1, depth), 64, 256);
  images_per_tile = std::max<int64_t>(1, limit / std::max<int64_t>(1, grid));
  parts = std::max<int64_t>(1, (grid + limit - 1) / limit);
  size = images_per_tile > 1 ? images_per_tile * grid : (grid + parts - 1) / parts;
}

int64_t PixelTiles::number() const {
  if (grid == 0) return 0;
  return images_per_tile > 1 ? (images + images_per_tile - 1) / images_per_tile : images * parts;
}

int64_t PixelTiles::begin(int64_t tile) const { return tile / parts * images_per_tile * grid + tile % parts * size; }

int64_t PixelTiles::end(int64_t tile) const {
  return std::min({begin(tile) + size, (tile / parts + 1) * images_per_tile * grid, images * grid});
}

template <class T>
Factor<T> sample(const Sampling& s, const T* source, int64_t channel, int64_t channels, int64_t begin, int64_t end,
                 T* columns) {
  if (s.identity()) return {source + begin * s.channels + channel, s.channels};
  const SampledAxis &down = s.rows, &across = s.columns;
  const int64_t width = across.taps * channels, depth = down.taps * width;
  for (int64_t pixel = begin; pixel < end;) {  // the tile's part of one row of the grid after the other
    const int64_t j = pixel % across.grid, i = pixel / across.grid % down.grid, image = pixel / s.grid();
    const int64_t count = std::min(across.grid - j, end - pixel);
    for (int64_t t = 0; t < down.taps; ++t) {
      const int64_t row = i * down.stride + down.first + t * down.step;
      T* to = columns + (pixel - begin) * depth + t * width;
      if (row >= 0 && row < down.source) {
        sample_row(s, source + (image * down.source + row) * across.source * s.channels + channel, channels, j, count,
                   to, depth);
      } else {
        for (int64_t n = 0; n < count; ++n) std::fill_n(to + n * depth, width, T(0));
      }
    }
    pixel += count;
  }
  return {columns, depth};
}

int64_t column_elements(const Sampling& s, const PixelTiles& tiles, int64_t channels) {
  return s.identity() ? 0 : tiles.size * s.taps() * channels;
}

template Factor<float> sample(const Sampling&, const float*, int64_t, int64_t, int64_t, int64_t, float*);
template Factor<double> sample(const Sampling&, const double*, int64_t, int64_t, int64_t, int64_t, double*);

}  // namespace parabola
