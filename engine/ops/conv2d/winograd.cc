#include "engine/ops/conv2d/winograd.h"

#include "engine/core/thread_pool.h"
#include "engine/ops/conv2d/winograd_tiles.h"

namespace parabola::winograd {
namespace {

// More transformed weights, some 9 MiB of floats, take longer to read for each tile than their products save.
constexpr int64_t most_pairs = 1 << 16;

// A row's windows are all transformed at once. Of rows longer than a tile usually is, these many values at a position
// (4.5 MiB of floats in all) are as much as a thread should take.
constexpr int64_t most_columns = 1024, most_values = 1 << 15;

// Inputs of a chunk of the weight's gradient. Of few tiles, chunks of half the size occupy the threads with half as
// many partial sums; they transform the outputs' gradients twice as often.
int64_t gradient_inputs(const PixelTiles& tiles) { return tiles.number() < 32 ? most_channels / 2 : most_channels; }
int64_t input_chunks(const ConvGeometry& g, const PixelTiles& tiles) {
  return (g.C + gradient_inputs(tiles) - 1) / gradient_inputs(tiles);
}

// Windows of the largest tile.
int64_t most_windows(const ConvGeometry& g, const PixelTiles& tiles) {
  const int64_t rows = std::min(g.Ho, std::max<int64_t>(1, tiles.size / g.Wo));
  return tiles.images_per_tile * windows_over(rows) * windows_over(g.Wo);
}

int64_t windows_of(const ConvGeometry& g, int64_t begin, int64_t end) {
  int64_t rows = 0;
  each_row_of_windows(g, begin, end, [&](int64_t, int64_t, int64_t) { ++rows; });
  return rows * windows_over(g.Wo);
}

}  // namespace

bool applies(const ConvGeometry& g) {
  // The gradient's images are the inputs, so these count as well.
  const int64_t least = std::min({g.H, g.W, g.Ho, g.Wo}), widest = std::max(g.W, g.Wo);
  const bool fits = side * widest <= PixelTiles::usual ||
                    (widest <= most_columns && windows_over(widest) * std::max(g.C, g.K) <= most_values);
  return g.R == 3 && g.S == 3 && g.stride == 1 && g.dilation == 1 && g.groups == 1 && g.padding <= 2 &&
         g.C % channel_step == 0 && g.K % channel_step == 0 && g.C > 0 && g.K > 0 && least >= side && fits &&
         g.C * g.K <= most_pairs;
}

PixelTiles output_tiles(const ConvGeometry& g) { return {forward_sampling(g), positions * g.C / (side * side), side}; }

ConvGeometry turned(const ConvGeometry& g) {
  ConvGeometry t = g;
  t.H = g.Ho, t.W = g.Wo, t.C = g.K, t.K = g.C, t.Ho = g.H, t.Wo = g.W, t.padding = 2 - g.padding;
  return t;
}

int64_t packed_weight_elements(const ConvGeometry& g) { return positions * g.K * g.C; }

template <class T>
void pack_weight(const ConvGeometry& g, const T* weight, bool turns, T* packed) {
  const int64_t blocks = g.C / channel_step, tap = turns ? g.K : g.C, row_elements = 9 * tap;
  thread_pool().run(chunks_of(g.K) * blocks, [&](int64_t task, int) {
    alignas(64) T block[positions * most_channels * channel_step];
    const int64_t output = task / blocks * most_channels, input = task % blocks * channel_step;
    // A task: a chunk of outputs of 16 inputs. The weight has those inputs side by side, or, turned, those outputs.
    const int64_t width = chunk_at(output, g.K), rows = turns ? channel_step : width,
                  columns = turns ? width : channel_step;
    const T* from = weight + (turns ? input : output) * row_elements + (turns ? output : input);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t column = 0; column < columns; column += vector_lanes<T>) {
        Vector<T> kernel[3][3], transformed[reach][reach];
        for (int r = 0; r < 3; ++r)
          for (int s = 0; s < 3; ++s)
            kernel[r][s] = load_vector(from + row * row_elements + (turns ? 8 - 3 * r - s : 3 * r + s) * tap + column);
        transform_kernel<T>(kernel, transformed);
        for (int i = 0; i < reach; ++i)
          for (int j = 0; j < reach; ++j)
            store_vector(block + ((reach * i + j) * rows + row) * columns + column, transformed[i][j]);
      }
    for (int64_t position = 0; position < positions; ++position)
      pack_panel_rows<T>(width, g.C, {block + position * rows * columns, columns, !turns}, input, channel_step,
                         packed + (output * positions + position * width) * g.C);
  });
}

int64_t tile_scratch_elements(const ConvGeometry& g, const PixelTiles& tiles) {
  const int64_t windows = most_windows(g, tiles), width = even_chunk(g.C);
  return g.C / width * Planes<float>::elements(windows, width) + Planes<float>::elements(windows, chunk_at(0, g.K));
}

template <class T>
void convolve_tile(const ConvGeometry& g, ConvInputOf<T> x, int64_t begin, int64_t end,
                   std::initializer_list<TileMap<T>> maps, T* scratch) {
  const int64_t windows = windows_of(g, begin, end), width = even_chunk(g.C), chunks = g.C / width;
  const int64_t jump = Planes<T>::elements(windows, width);
  for (int64_t chunk = 0; chunk < chunks; ++chunk)
    transform_input(g, x, begin, end, chunk * width, Planes<T>(scratch + chunk * jump, windows, width));
  int64_t rows[PixelTiles::usual];
  PARABOLA_ASSERT(windows <= PixelTiles::usual);
  for (int64_t i = 0; i < windows; ++i) rows[i] = i * width;
  for (const TileMap<T>& map : maps) {
    for (int64_t k = 0; k < map.group_outputs; k += most_channels) {
      const int64_t out = chunk_at(k, map.group_outputs);
      const Planes<T> inputs(scratch, windows, width), outputs(scratch + chunks * jump, windows, out);
      for (int64_t position = 0; position < positions; ++position)
        tile_product<T>(windows, out, {inputs.at(position), rows, {1, chunks}, {0, jump}, width},
                        {map.packed_weight + (k * positions + position * out) * g.C, g.C}, outputs.at(position), out,
                        false);
      transform_output(g, begin, end, outputs, map.bias ? map.bias + k : nullptr, map.accumulate, map.y + k,
                       map.stride);
    }
  }
}

int64_t gradient_chunks(const ConvGeometry& g, const PixelTiles& tiles) {
  return chunks_of(g.K) * input_chunks(g, tiles);
}

int64_t most_parts(const ConvGeometry& g, const PixelTiles& tiles) {
  const int64_t chunks = gradient_chunks(g, tiles), least = std::max<int64_t>(4, 8 / chunks);
  return std::clamp<int64_t>(tiles.number() / 4, least, std::max(least, 32 / chunks));
}

int64_t gradient_scratch_elements(const ConvGeometry& g, const PixelTiles& tiles) {
  const int64_t windows = most_windows(g, tiles), inputs = std::min(gradient_inputs(tiles), g.C),
                outputs = chunk_at(0, g.K);
  return Planes<float>::elements(windows, inputs) + Planes<float>::elements(windows, outputs) +
         Planes<float>::elements(outputs, inputs);
}

template <class T>
void weight_gradient_part(const ConvGeometry& g, const PixelTiles& tiles, int64_t first, int64_t last, int64_t chunk,
                          ConvInputOf<T> x, const T* dy, T* dw, T* scratch) {
  const int64_t chunks = input_chunks(g, tiles), most = gradient_inputs(tiles);
  const int64_t k = chunk / chunks * most_channels, c = chunk % chunks * most;
  const int64_t width = std::min(most, g.C - c), outs = chunk_at(k, g.K);
  const Planes<T> sums(scratch, outs, width);
  scratch += Planes<T>::elements(outs, width);
  for (int64_t tile = first; tile < last; ++tile) {
    const int64_t begin = tiles.begin(tile), end = tiles.end(tile), windows = windows_of(g, begin, end);
    const Planes<T> inputs(scratch, windows, width);
    const Planes<T> gradients(scratch + Planes<T>::elements(windows, width), windows, outs);
    transform_input(g, x, begin, end, c, inputs);
    transform_gradient(g, dy, begin, end, k, gradients);
    for (int64_t position = 0; position < positions; ++position)
      tile_product<T>(outs, width, windows, {gradients.at(position), outs, true}, {inputs.at(position), width},
                      sums.at(position), width, tile > first);
  }
  for (int64_t row = 0; row < outs; ++row)
    for (int64_t column = 0; column < width; column += vector_lanes<T>) {
      Vector<T> m[reach][reach], kernel[3][3];
      for (int i = 0; i < reach; ++i)
        for (int j = 0; j < reach; ++j) m[i][j] = load_vector(sums.at(reach * i + j) + row * width + column);
      transform_kernel_gradient<T>(m, kernel);
      for (int r = 0; r < 3; ++r)
        for (int s = 0; s < 3; ++s) store_vector(dw + ((k + row) * 9 + 3 * r + s) * g.C + c + column, kernel[r][s]);
    }
}

#define PARABOLA_WINOGRAD(T)                                                                            \
  template void pack_weight(const ConvGeometry&, const T*, bool, T*);                                   \
  template void convolve_tile(const ConvGeometry&, ConvInputOf<T>, int64_t, int64_t,                    \
                              std::initializer_list<TileMap<T>>, T*);                                   \
  template void weight_gradient_part(const ConvGeometry&, const PixelTiles&, int64_t, int64_t, int64_t, \
                                     ConvInputOf<T>, const T*, T*, T*);
PARABOLA_WINOGRAD(float)
PARABOLA_WINOGRAD(double)

}  // namespace parabola::winograd
