// The gradient of a bias that was added to every row.
#pragma once
#include "engine/ops/column_stats.h"

namespace parabola {

inline int64_t bias_gradient_workspace(int64_t rows, int64_t columns) {
  return RowBlocks{rows, columns}.blocks() * columns;  // elements
}

// db [columns] = or += the column sums of dy [rows, columns].
template <class T>
void bias_gradient(const T* dy, int64_t rows, int64_t columns, T* db, bool accumulate, T* workspace) {
  const auto add_rows = [&](int64_t first, int64_t last, T* partial) {
    for (int64_t row = first; row < last; ++row) {
      for (int64_t c = 0; c < columns; ++c) partial[c] += dy[row * columns + c];
    }
  };
  column_sums(RowBlocks{rows, columns}, 1, workspace, add_rows, [&](int64_t c, double sum) {
    db[c] = static_cast<T>(accumulate ? static_cast<double>(db[c]) + sum : sum);
  });
}

}  // namespace parabola
