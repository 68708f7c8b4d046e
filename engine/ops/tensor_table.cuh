// One launch for many tensors (all parameters of a model): their addresses travel as a kernel parameter, and blocks
// take equal pieces of them in turn. What works element by element on several kinds of tensors that belong together (a
// parameter, its gradient, its states) or sums up all of them asks for a TensorTable.
#pragma once
#include <algorithm>

#include "engine/core/op.h"
#include "engine/cuda/launch.cuh"

namespace parabola {

template <class T, int kinds>
struct TensorTable {
  struct Row {
    T* data[kinds];
    int64_t elements, first_piece;
  };
  static constexpr int64_t piece_elements = 4096;
  // Some bytes are left to other parameters.
  static constexpr int capacity = (most_parameter_bytes - 256) / static_cast<int>(sizeof(Row));

  Row rows[capacity];
  int count = 0;
  int64_t pieces = 0;

  static int64_t pieces_of(const Shape& shape) { return (shape.elements() + piece_elements - 1) / piece_elements; }

  // Calls use(row, begin, end, piece) for the pieces of this block: elements [begin, end) of the row's tensors.
  template <class Use>
  __device__ void each_piece(Use use) const {
    for (int64_t piece = blockIdx.x; piece < pieces; piece += gridDim.x) {
      int found = 0;  // the last row that begins at the piece or before it
      for (int step = 1024; step > 0; step /= 2)
        if (found + step < count && rows[found + step].first_piece <= piece) found += step;
      const Row& row = rows[found];
      const int64_t begin = (piece - row.first_piece) * piece_elements, end = begin + piece_elements;
      use(row, begin, end < row.elements ? end : row.elements, piece);
    }
  }
};

// Calls use(table) with table after table, until each of `count` tensors has been in one. tensors: all of the first
// kind, all of the second, and so on; a kind that is not there has null pointers.
template <class T, int kinds, class Use>
void each_table(std::span<const TensorView> tensors, size_t count, Use&& use) {
  TensorTable<T, kinds> table;
  for (size_t i = 0; i < count; ++i) {
    auto& row = table.rows[table.count++];
    for (size_t kind = 0; kind < kinds; ++kind)
      row.data[kind] = kind * count < tensors.size() ? tensors[kind * count + i].template data<T>() : nullptr;
    row.elements = tensors[i].shape.elements();
    row.first_piece = table.pieces;
    table.pieces += table.pieces_of(tensors[i].shape);
    if (table.count < table.capacity && i + 1 < count) continue;
    use(table);
    table.count = 0, table.pieces = 0;
  }
}

}  // namespace parabola
