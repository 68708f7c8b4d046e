// One of a problem's two kernels, ready for the passes over a tile. Its *planes* are its filters: one for the linear
// kernel, 2 J for the factors, in the order a_0, b_0, a_1, b_1, ... In backward each plane has a gradient tile.
#pragma once
#include "engine/ops/depthwise/accumulate.h"
#include "engine/ops/depthwise/pieces.h"

namespace parabola::depthwise {

template <class T>
Vector<T>* take_vectors(Scratch& scratch, int64_t count) {
  return reinterpret_cast<Vector<T>*>(scratch.take<std::byte>(count * vector_bytes));
}

template <class T>
void clear(Vector<T>* vectors, int64_t count) {
  std::fill_n(vectors, count, Vector<T>{});
}

// The image into the middle of a tile, whose margins stay as they are.
template <class T>
void fill_tile(const ChannelSlice<T>& image, int64_t rows, int64_t columns, const Tile& tile, Vector<T>* to) {
  for (int64_t row = 0; row < rows; ++row) {
    Vector<T>* line = to + tile.at(row, 0);
    for (int64_t column = 0; column < columns; ++column) line[column] = image[row * columns + column];
  }
}

// The tiles of each thread, whose margins stay zero from one piece to the next; a thread clears its own ones, which so
// lie in its caches.
template <class T>
class Tiles {
 public:
  void take(int64_t vectors, Scratch& scratch) {
    size_ = vectors;
    tiles_ = take_vectors<T>(scratch, thread_pool().threads() * size_);
    cleared_ = scratch.take<bool>(thread_pool().threads());
  }
  void begin() { std::fill_n(cleared_, thread_pool().threads(), false); }
  Vector<T>* of(int worker) {
    Vector<T>* tiles = tiles_ + worker * size_;
    if (!cleared_[worker]) clear<T>(tiles, size_), cleared_[worker] = true;
    return tiles;
  }

 private:
  Vector<T>* tiles_ = nullptr;
  bool* cleared_ = nullptr;
  int64_t size_ = 0;
};

template <class T>
struct Part {
  int64_t planes = 0, taps = 0, columns = 0;  // columns: taps in a kernel row
  ConvGeometry geometry{};
  Tables tables;
  Vector<T>*weights = nullptr, *flipped = nullptr;  // [block][plane][tap]; flipped: the last column of a row first

  explicit operator bool() const { return planes > 0; }
  int64_t plane_size() const { return tables.gradient.vectors(); }
  int64_t first_weight(int64_t block, int64_t plane = 0) const { return (block * planes + plane) * taps; }

  void take(const Problem& problem, const ConvGeometry& g, int64_t plane_count, bool backward, Scratch& scratch) {
    planes = plane_count, taps = g.R * g.S, columns = g.S, geometry = g;
    tables = backward ? backward_tables(problem, g, planes, scratch) : forward_tables(problem, g, scratch);
    weights = take_vectors<T>(scratch, first_weight(Cut<T>(g).blocks));
    if (backward) flipped = take_vectors<T>(scratch, first_weight(Cut<T>(g).blocks));
  }

  // Filters [.., R, S, C] of one input become planes `first`, first + step, ...
  void pack(const TensorView& filters, const Cut<T>& cut, int64_t block, int64_t first, int64_t step) {
    if (!filters) return;
    for (int64_t plane = first; plane < planes; plane += step) {
      const ChannelSlice<T> filter(filters, cut, block, plane / step * taps);
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int64_t mirrored = tap - tap % columns + columns - 1 - tap % columns;
        weights[first_weight(block, plane) + tap] = filter[tap];
        if (flipped) flipped[first_weight(block, plane) + tap] = filter[mirrored];
      }
    }
  }
};

}  // namespace parabola::depthwise
