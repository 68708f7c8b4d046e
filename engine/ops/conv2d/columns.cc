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

// What lies on one axis between the first position that `count` grid positions read and the last one.
int64_t extent(const SampledAxis& axis, int64_t count) {
  return count < 1 || axis.taps < 1 ? 0 : (count - 1) * axis.stride + (axis.taps - 1) * axis.step + 1;
}

// `width` pixels of a source row (null: outside of the image) from column `first` on, zeros where there are none.
template <class T>
void copy_row(const Sampling& s, const T* row, int64_t channels, int64_t first, int64_t width, T* to) {
  const int64_t begin = row ? std::clamp<int64_t>(-first, 0, width) : width;
  const int64_t end = row ? std::clamp<int64_t>(s.columns.source - first, begin, width) : width;
  std::fill_n(to, begin * channels, T(0));
  if (channels == s.channels) {
    copy_run(row + (first + begin) * channels, (end - begin) * channels, to + begin * channels);
  } else {
    for (int64_t w = begin; w < end; ++w) copy_run(row + (first + w) * s.channels, channels, to + w * channels);
  }
  std::fill_n(to + end * channels, (width - end) * channels, T(0));
}

// Calls part(image, first pixel, end) for each image of which pixels [begin, end) are.
template <class Part>
void each_image(const Sampling& s, int64_t begin, int64_t end, const Part& part) {
  for (int64_t pixel = begin, last; pixel < end; pixel = last) {
    const int64_t image = pixel / s.grid();
    last = std::min(end, (image + 1) * s.grid());
    part(image, pixel, last);
  }
}

// What pixels [begin, end) of one image read, from the first to the last row of the source.
int64_t rows_read(const Sampling& s, int64_t begin, int64_t end) {
  return extent(s.rows, (end - 1) % s.grid() / s.columns.grid - begin % s.grid() / s.columns.grid + 1);
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

PixelTiles::PixelTiles(const Sampling& sampling, int64_t depth, int64_t side)
    : images(sampling.images), grid(sampling.grid()) {
  const int64_t width = sampling.columns.grid;
  const int64_t wanted = (1 << 16) / std::max<int64_t>(1, depth), windows = side * width;
  const int64_t limit =
      side == 1 ? std::clamp<int64_t>(wanted, 64, 256) : std::max(windows, std::clamp<int64_t>(wanted, 256, usual));
  images_per_tile = std::max<int64_t>(1, limit / std::max<int64_t>(1, grid));
  parts = std::max<int64_t>(1, (grid + limit - 1) / limit);
  size = images_per_tile > 1 ? images_per_tile * grid : (grid + parts - 1) / parts;
  if (parts > 1 && windows <= limit) {  // whole rows
    const int64_t rows = std::min(limit / width, (size + width - 1) / width + side - 1) / side * side;
    size = rows * width;
    parts = (grid + size - 1) / size;
  }
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
Factor<T> write_patches(const Sampling& s, const T* source, int64_t channel, int64_t channels, int64_t begin,
                        int64_t end, T* columns) {
  const SampledAxis &down = s.rows, &across = s.columns;
  T* to = columns;
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const int64_t top = pixel / across.grid % down.grid * down.stride + down.first;
    const int64_t left = pixel % across.grid * across.stride + across.first;
    const T* image = source + pixel / s.grid() * down.source * across.source * s.channels + channel;
    for (int64_t t = 0; t < down.taps; ++t)
      for (int64_t u = 0; u < across.taps; ++u, to += channels) {
        const int64_t h = top + t * down.step, w = left + u * across.step;
        if (h >= 0 && h < down.source && w >= 0 && w < across.source)
          copy_run(image + (h * across.source + w) * s.channels, channels, to);
        else
          std::fill_n(to, channels, T(0));
      }
  }
  return {columns, s.taps() * channels};
}

template <class T>
TilePatches<T>::TilePatches(const Sampling& s, const T* source, int64_t channel, int64_t channels, int64_t begin,
                            int64_t end, T* strip) {
  PARABOLA_ASSERT(end - begin <= PixelTiles::usual);
  const SampledAxis &down = s.rows, &across = s.columns;
  const int64_t width = extent(across, across.grid), row_elements = width * channels;
  int64_t strip_pixels = 0;
  each_image(s, begin, end,
             [&](int64_t, int64_t first, int64_t last) { strip_pixels += rows_read(s, first, last) * width; });
  if (s.identity() || strip_pixels > (end - begin) * s.taps()) {
    const Factor<T> rows = s.identity() ? Factor<T>{source + begin * s.channels + channel, s.channels}
                                        : write_patches(s, source, channel, channels, begin, end, strip);
    for (int64_t i = 0; i < end - begin; ++i) rows_[i] = i * rows.stride;
    patches_ = {rows.data, rows_, {1, 1}, {0, 0}, s.taps() * channels};
    return;
  }
  T* to = strip;
  each_image(s, begin, end, [&](int64_t image, int64_t pixel, int64_t last) {
    const int64_t top = pixel % s.grid() / across.grid, height = rows_read(s, pixel, last);
    const int64_t first = top * down.stride + down.first;
    const T* from = source + image * down.source * across.source * s.channels + channel;
    for (int64_t h = 0; h < height; ++h) {
      const bool inside = first + h >= 0 && first + h < down.source;
      copy_row(s, inside ? from + (first + h) * across.source * s.channels : nullptr, channels, across.first, width,
               to + h * row_elements);
    }
    for (int64_t i = top, j = pixel % across.grid; pixel < last; ++i, j = 0)
      for (; j < across.grid && pixel < last; ++j, ++pixel)
        rows_[pixel - begin] = to - strip + ((i - top) * down.stride * width + j * across.stride) * channels;
    to += height * row_elements;
  });
  const int64_t down_jump = down.step * row_elements;
  if (across.step == 1)  // a pixel's taps of one kernel row lie side by side
    patches_ = {strip, rows_, {down.taps, 1}, {down_jump, 0}, across.taps * channels};
  else
    patches_ = {strip, rows_, {down.taps, across.taps}, {down_jump, across.step * channels}, channels};
}

int64_t strip_elements(const Sampling& s, const PixelTiles& tiles, int64_t channels) {
  if (s.identity()) return 0;
  const int64_t width = std::max<int64_t>(1, s.columns.grid);
  // A tile that does not begin with a row may touch two more.
  const int64_t rows = std::min(s.rows.grid, tiles.size / width + (tiles.size % width == 0 ? 0 : 2));
  const int64_t pixels = tiles.images_per_tile * extent(s.rows, rows) * extent(s.columns, s.columns.grid);
  return std::min(pixels, tiles.size * s.taps()) * channels + patch_margin;
}

#define PARABOLA_COLUMNS(T)      \
  template class TilePatches<T>; \
  template Factor<T> write_patches(const Sampling&, const T*, int64_t, int64_t, int64_t, int64_t, T*);
PARABOLA_COLUMNS(float)
PARABOLA_COLUMNS(double)

}  // namespace parabola
