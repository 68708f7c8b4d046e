// The gradient of a bias that was added to every row.
#pragma once
#include "engine/ops/column_stats.h"

namespace parabola {

inline int64_t bias_gradient_workspace(int64_t rows, int64_t columns) {
  const RowBlocks matrix = rows_at_once(rows, columns);
  return matrix.blocks() * matrix.width();  // elements
}

// db [columns] = or += the column sums of dy [rows, columns], rows `stride` apart; of less than 128 columns those that
// follow one another.
template <class T>
void bias_gradient(const T* dy, int64_t rows, int64_t columns, T* db, bool accumulate, T* workspace, int64_t stride) {
  const RowBlocks matrix = rows_at_once(rows, columns);
  PARABOLA_ASSERT(stride == columns || matrix.at_once == 1);
  const auto add_rows = [&, width = matrix.width(), step = matrix.at_once * stride](int64_t first, int64_t last,
                                                                                    T* partial) {
    for (const T *row = dy + first * stride, *end = dy + last * stride; row < end; row += step) {
      for (int64_t c = 0; c < width; ++c) partial[c] += row[c];
    }
  };
  column_sums(matrix, 1, workspace, add_rows, [&](int64_t c, double sum) {
    db[c] = static_cast<T>(accumulate ? static_cast<double>(db[c]) + sum : sum);
  });
}

template <class T>
void bias_gradient(const T* dy, int64_t rows, int64_t columns, T* db, bool accumulate, T* workspace) {
  bias_gradient(dy, rows, columns, db, accumulate, workspace, columns);
}

}  // namespace parabola
