// The gradient of a bias that was added to every row.
#pragma once
#include "engine/ops/column_stats.h"

namespace parabola {

inline int64_t bias_gradient_workspace(int64_t rows, int64_t columns) {
  const RowBlocks matrix = rows_at_once(rows, columns);
  return matrix.blocks() * matrix.width();  // elements
}

// db [columns] = or += the column sums of dy [rows, columns].
template <class T>
void bias_gradient(const T* dy, int64_t rows, int64_t columns, T* db, bool accumulate, T* workspace) {
  const RowBlocks matrix = rows_at_once(rows, columns);
  const auto add_rows = [&, width = matrix.width()](int64_t first, int64_t last, T* partial) {
    for (const T *row = dy + first * columns, *end = dy + last * columns; row < end; row += width) {
      for (int64_t c = 0; c < width; ++c) partial[c] += row[c];
    }
  };
  column_sums(matrix, 1, workspace, add_rows, [&](int64_t c, double sum) {
    db[c] = static_cast<T>(accumulate ? static_cast<double>(db[c]) + sum : sum);
  });
}

}  // namespace parabola
