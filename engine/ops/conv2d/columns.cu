#include "engine/ops/conv2d/columns.cuh"

#include <algorithm>
#include <numeric>

#include "engine/cuda/warp.cuh"
#include "engine/ops/conv2d/columns.h"

namespace parabola {
namespace {

// A warp takes an output pixel. What that reads of one kernel row is a run of S * channels values, along which the
// lanes go.
template <class T>
__global__ void conv2d_columns(ConvGeometry g, ConvChunk chunk, const T* x, T* columns) {
  const int64_t channels = g.group_inputs(), run = g.S * channels, pixels = chunk.pixels(g);
  const int64_t first_tap = lane_index() / channels, first_channel = lane_index() % channels;
  const int64_t step_taps = warp_size / channels, step_channels = warp_size % channels;
  for (int64_t pixel = thread_index() / warp_size; pixel < pixels; pixel += thread_count() / warp_size) {
    const int64_t row = pixel / g.Wo, image = chunk.image + row / chunk.rows;
    const int64_t top = (chunk.row + row % chunk.rows) * g.stride - g.padding;
    const int64_t left = pixel % g.Wo * g.stride - g.padding;
    for (int64_t group = 0; group < g.groups; ++group)
      for (int64_t r = 0; r < g.R; ++r) {
        const int64_t h = top + r * g.dilation;
        const T* from = x + (image * g.H + h) * g.W * g.C + group * channels;
        T* to = columns + ((group * pixels + pixel) * g.R + r) * run;
        int64_t s = first_tap, c = first_channel;
        for (int64_t i = lane_index(); i < run; i += warp_size) {
          const int64_t w = left + s * g.dilation;
          to[i] = h >= 0 && h < g.H && w >= 0 && w < g.W ? from[w * g.C + c] : T(0);
          s += step_taps, c += step_channels;
          if (c >= channels) c -= channels, ++s;
        }
      }
  }
}

// The taps of one kernel axis that read input position p: where stride divides p + padding - tap dilation, that is
// every `tap_step`th, each for the output `output_step` before the last one's.
struct GatheredAxis {
  int64_t stride, padding, dilation, taps, tap_step, output_step;

  GatheredAxis(const ConvGeometry& g, int64_t kernel)
      : stride(g.stride),
        padding(g.padding),
        dilation(g.dilation),
        taps(kernel),
        tap_step(g.stride / std::gcd(g.stride, g.dilation)),
        output_step(g.dilation / std::gcd(g.stride, g.dilation)) {}

  // The first of them and its output; tap == taps: there is none.
  __device__ void first(int64_t position, int64_t& tap, int64_t& output) const {
    for (tap = 0; tap < tap_step && (position + padding - tap * dilation) % stride != 0;) ++tap;
    output = (position + padding - tap * dilation) / stride;
    if (tap == tap_step) tap = taps;
  }
};

// The input rows [begin, end) of each image that a chunk writes; those before `fresh` have been written already.
struct GatheredRows {
  int64_t begin, fresh, end;
};

GatheredRows gathered_rows(const ConvGeometry& g, const ConvChunk& chunk) {
  const auto written_by = [&](int64_t outputs) {  // input rows that the first `outputs` rows of the output account for
    if (outputs == 0 || outputs == g.Ho) return outputs == 0 ? 0 : g.H;
    return std::clamp<int64_t>((outputs - 1) * g.stride - g.padding + (g.R - 1) * g.dilation + 1, 0, g.H);
  };
  const int64_t fresh = written_by(chunk.row), first_read = std::max<int64_t>(0, chunk.row * g.stride - g.padding);
  return {std::min(fresh, first_read), fresh, written_by(chunk.row + chunk.rows)};
}

// A warp takes an input pixel, its lanes the channels, whose taps are added in their order.
template <class T>
__global__ void conv2d_gather(ConvGeometry g, ConvChunk chunk, GatheredRows rows, GatheredAxis down,
                              GatheredAxis across, const T* columns, T* dx, bool accumulate) {
  const int64_t channels = g.group_inputs(), outputs = chunk.pixels(g);
  const int64_t height = rows.end - rows.begin, pixels = chunk.images * height * g.W;
  for (int64_t pixel = thread_index() / warp_size; pixel < pixels; pixel += thread_count() / warp_size) {
    const int64_t w = pixel % g.W, h = rows.begin + pixel / g.W % height, image = pixel / g.W / height;
    int64_t first_r, first_i, first_s, first_j;
    down.first(h, first_r, first_i);
    across.first(w, first_s, first_j);
    T* to = dx + (((chunk.image + image) * g.H + h) * g.W + w) * g.C;
    const bool add = accumulate || h < rows.fresh;
    for (int64_t group = 0; group < g.groups; ++group)
      for (int64_t c = lane_index(); c < channels; c += warp_size) {
        T sum = 0;
        for (int64_t r = first_r, i = first_i - chunk.row; r < g.R; r += down.tap_step, i -= down.output_step) {
          if (i < 0 || i >= chunk.rows) continue;
          const T* from = columns + ((group * outputs + (image * chunk.rows + i) * g.Wo) * g.R + r) * g.S * channels;
          for (int64_t s = first_s, j = first_j; s < g.S; s += across.tap_step, j -= across.output_step)
            if (j >= 0 && j < g.Wo) sum += from[(j * g.R * g.S + s) * channels + c];
        }
        T& d = to[group * channels + c];
        d = add ? d + sum : sum;
      }
  }
}

dim3 blocks_for_pixels(int64_t pixels) { return blocks_for(pixels, block_size / warp_size); }

}  // namespace

ConvChunks::ConvChunks(const ConvGeometry& g, int64_t elements) : batch_(g.N), height_(g.Ho) {
  const int64_t most = std::max<int64_t>(1, most_chunk_elements / std::max<int64_t>(1, g.Wo * elements));  // rows
  const auto in_equal_parts = [](int64_t count, int64_t size) {
    const int64_t parts = std::max<int64_t>(1, (count + size - 1) / size);
    return (count + parts - 1) / parts;
  };
  images_ = elements == 0 ? batch_ : in_equal_parts(batch_, std::max<int64_t>(1, most / height_));
  rows_ = elements == 0 ? height_ : in_equal_parts(height_, most);
  parts_ = (height_ + rows_ - 1) / rows_;
}

int64_t ConvChunks::number() const { return batch_ == 0 ? 1 : (batch_ + images_ - 1) / images_ * parts_; }

ConvChunk ConvChunks::operator[](int64_t index) const {
  const int64_t image = index / parts_ * images_, row = index % parts_ * rows_;
  return {image, std::min(images_, batch_ - image), row, std::min(rows_, height_ - row)};
}

int64_t column_elements(const ConvGeometry& g) { return forward_sampling(g).identity() ? 0 : g.groups * g.depth(); }

template <class T>
DeviceColumns<T> device_columns(DeviceStream stream, const ConvGeometry& g, const ConvChunk& chunk, const T* x,
                                T* columns) {
  if (column_elements(g) == 0) return {{x + chunk.first_pixel(g) * g.C, g.C}, g.group_inputs()};
  const int64_t pixels = chunk.pixels(g);
  launch(conv2d_columns<T>, blocks_for_pixels(pixels), block_size, 0, stream, g, chunk, x, columns);
  return {{columns, g.depth()}, pixels * g.depth()};
}

template <class T>
void device_gather(DeviceStream stream, const ConvGeometry& g, const ConvChunk& chunk, const T* columns, T* dx,
                   bool accumulate) {
  const GatheredRows rows = gathered_rows(g, chunk);
  launch(conv2d_gather<T>, blocks_for_pixels(chunk.images * (rows.end - rows.begin) * g.W), block_size, 0, stream, g,
         chunk, rows, GatheredAxis(g, g.R), GatheredAxis(g, g.S), columns, dx, accumulate);
}

#define PARABOLA_COLUMNS(T)                                                                                    \
  template DeviceColumns<T> device_columns(DeviceStream, const ConvGeometry&, const ConvChunk&, const T*, T*); \
  template void device_gather(DeviceStream, const ConvGeometry&, const ConvChunk&, const T*, T*, bool);
PARABOLA_COLUMNS(float)
PARABOLA_COLUMNS(double)

}  // namespace parabola
