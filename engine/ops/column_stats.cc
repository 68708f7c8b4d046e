#include "engine/ops/column_stats.h"

namespace parabola {
namespace {

template <class T>
void add_up(const RowBlocks& matrix, int64_t sums, T* workspace, AddRows<T> add_rows, FinishSums finish) {
  const int64_t width = matrix.width(), columns = matrix.columns, blocks = matrix.blocks();
  matrix.each_block([&](int64_t outer, int64_t block) {
    T* partial = workspace + (outer * blocks + block) * sums * width;
    std::fill_n(partial, sums * width, T(0));
    add_rows(outer * matrix.rows + matrix.begin(block), outer * matrix.rows + matrix.end(block), partial);
  });
  const int64_t parts = blocks * matrix.at_once;
  const int64_t grain = std::max(column_group, elementwise_grain / std::max<int64_t>(1, parts));
  parallel_for(matrix.outer * sums * columns, grain, [&](int64_t first, int64_t last) {
    for (int64_t index = first; index < last;) {
      const int64_t column = index % columns, count = std::min({column_group, columns - column, last - index});
      const int64_t outer = index / columns / sums, quantity = index / columns % sums;
      const T* partial = workspace + (outer * blocks * sums + quantity) * width + column;
      double sum[column_group] = {};
      for (int64_t part = 0; part < parts; ++part) {
        const T* from = partial + part / matrix.at_once * sums * width + part % matrix.at_once * columns;
        for (int64_t k = 0; k < count; ++k) sum[k] += from[k];
      }
      finish(index, count, sum);
      index += count;
    }
  });
}

}  // namespace

void run_column_sums(const RowBlocks& matrix, int64_t sums, float* workspace, AddRows<float> add_rows,
                     FinishSums finish) {
  add_up(matrix, sums, workspace, add_rows, finish);
}

void run_column_sums(const RowBlocks& matrix, int64_t sums, double* workspace, AddRows<double> add_rows,
                     FinishSums finish) {
  add_up(matrix, sums, workspace, add_rows, finish);
}

}  // namespace parabola
