// Sums and moments of the columns of a matrix, for norms and for gradients of whatever is broadcast over rows.
//
// The order of every sum is fixed by the matrix's shape: its rows are cut into blocks; a task adds up one block, first
// row to last; the blocks' results are added in the order of the blocks, in double. So the bits depend neither on the
// number of threads nor on which op asks.
//
// Of a matrix with few columns several rows are read as one, so that what goes through it row by row has long loops,
// whose sums do not wait for each other; the sums of each column are put together with those of the blocks.
#pragma once
#include <algorithm>
#include <cmath>

#include "engine/core/thread_pool.h"
#include "engine/ops/elementwise.h"

namespace parabola {

// A stack of `outer` matrices [rows, columns], row-major. Rows are numbered through the whole stack. `at_once` of them,
// which divides their number, are read as one.
struct RowBlocks {
  int64_t rows, columns, outer = 1, at_once = 1;

  int64_t width() const { return at_once * columns; }  // of what is read as one row

  // Rows of a block: at most 128, since rounding errors grow with their number, and fewer where rows are long, since
  // column_moments reads a block twice and should find it in the cache; at least 64, so that the blocks' results stay
  // small beside the matrix. A single column is expected to be added up by lane_sum, which has 16 running sums.
  int64_t block_rows() const {
    if (width() == 1) return 128 * 16;
    return at_once * std::clamp<int64_t>(elementwise_grain / std::max<int64_t>(width(), 1), 64, 128);
  }
  int64_t blocks() const { return (rows + block_rows() - 1) / block_rows(); }  // of one matrix
  int64_t begin(int64_t block) const { return block * block_rows(); }
  int64_t end(int64_t block) const { return std::min(rows, begin(block) + block_rows()); }

  // Calls work(matrix, block) for every block, on all threads.
  template <class Work>
  void each_block(Work&& work) const {
    const int64_t tasks_in_grain = elementwise_grain / std::max<int64_t>(1, std::min(rows, block_rows()) * columns);
    parallel_for(outer * blocks(), std::max<int64_t>(1, tasks_in_grain), [&](int64_t first, int64_t last) {
      for (int64_t task = first; task < last; ++task) work(task / blocks(), task % blocks());
    });
  }
};

// One matrix, as many of its rows at once as make at least 128 columns, where their number has so many factors of two.
inline RowBlocks rows_at_once(int64_t rows, int64_t columns) {
  RowBlocks matrix{rows, columns};
  while (columns > 0 && matrix.width() < 128 && rows % (2 * matrix.at_once) == 0 && rows > 0) matrix.at_once *= 2;
  return matrix;
}

// Columns whose blocks' results are combined side by side: two AVX-512 vectors of doubles.
constexpr int64_t column_group = 16;

template <class T>
size_t column_sums_workspace(const RowBlocks& matrix, int64_t sums = 1) {
  return static_cast<size_t>(matrix.outer * matrix.blocks() * sums * matrix.width()) * sizeof(T);
}

// Adds up `sums` quantities for each column in one pass. add_rows(first, last, partial) adds the terms of rows
// [first, last) to partial[0 .. sums * width), which starts as zeros: the first quantity of all columns, then the
// second. Results go to finish(index, count, sums): `count` of them from `index` on, which runs over
// [outer][sums][columns]; the sums are in double.
template <class T>
using AddRows = FunctionRef<int64_t, int64_t, T*>;
using FinishSums = FunctionRef<int64_t, int64_t, const double*>;
void run_column_sums(const RowBlocks& matrix, int64_t sums, float* workspace, AddRows<float> add_rows,
                     FinishSums finish);
void run_column_sums(const RowBlocks& matrix, int64_t sums, double* workspace, AddRows<double> add_rows,
                     FinishSums finish);

// The same with finish(index, sum), for one result after another.
template <class T, class Finish>
void column_sums(const RowBlocks& matrix, int64_t sums, T* workspace, std::type_identity_t<AddRows<T>> add_rows,
                 Finish&& finish) {
  run_column_sums(matrix, sums, workspace, add_rows, [&](int64_t index, int64_t count, const double* values) {
    for (int64_t k = 0; k < count; ++k) finish(index + k, values[k]);
  });
}

// What a block of rows says about its columns: [rough mean, sum of deviations from it, sum of their squares][columns].
// Deviations are taken from a value near the mean, so values far from zero (mean 1e3, deviation 1) lose nothing; their
// sum makes up for what is rough in it. For ops that have their rows tile by tile and never all at once.
template <class T>
void block_moments(const T* x, int64_t rows, int64_t columns, T* moments) {
  T *mean = moments, *sum = moments + columns, *squares = moments + 2 * columns;
  std::fill_n(moments, 3 * columns, T(0));
  for (int64_t row = 0; row < rows; ++row) {
    PARABOLA_INDEPENDENT
    for (int64_t c = 0; c < columns; ++c) mean[c] += x[row * columns + c];
  }
  for (int64_t c = 0; c < columns; ++c) mean[c] /= static_cast<T>(rows);
  for (int64_t row = 0; row < rows; ++row) {
    PARABOLA_INDEPENDENT
    for (int64_t c = 0; c < columns; ++c) {
      const T deviation = x[row * columns + c] - mean[c];
      sum[c] += deviation;
      squares[c] = std::fma(deviation, deviation, squares[c]);
    }
  }
}

// Mean and biased variance of each column from the moments of its blocks, in their order and in double; rows_of(block)
// is the block's number of rows, of which `at_once` are read as one. (Chan, Golub, LeVeque, "Updating formulae and a
// pairwise algorithm for computing sample variances", 1979, with all blocks at once: variance within the blocks plus
// variance of their means.)
template <class T, class RowsOf>
void merge_moments(const T* moments, int64_t blocks, int64_t columns, RowsOf&& rows_of, T* mean, T* variance,
                   int64_t at_once = 1) {
  const int64_t width = at_once * columns;
  parallel_for(columns, column_group, [&](int64_t first, int64_t last) {
    const int64_t count = last - first;
    double rows = 0, centre[column_group] = {}, squares[column_group] = {};
    for (int64_t part = 0; part < blocks * at_once; ++part) {
      const int64_t block = part / at_once;
      const T *rough = moments + block * 3 * width + part % at_once * columns + first, *sum = rough + width;
      const auto n = static_cast<double>(rows_of(block)) / static_cast<double>(at_once);
      rows += n;
      for (int64_t k = 0; k < count; ++k) centre[k] += n * rough[k] + sum[k];
    }
    for (double& value : centre) value /= rows;
    for (int64_t part = 0; part < blocks * at_once; ++part) {
      const int64_t block = part / at_once;
      const T *rough = moments + block * 3 * width + part % at_once * columns + first, *sum = rough + width,
              *squared = sum + width;
      const auto n = static_cast<double>(rows_of(block)) / static_cast<double>(at_once);
      for (int64_t k = 0; k < count; ++k) {
        const double shift = rough[k] - centre[k];
        squares[k] += squared[k] + shift * (2 * sum[k] + n * shift);
      }
    }
    for (int64_t k = 0; k < count; ++k) {
      mean[first + k] = static_cast<T>(centre[k]);
      variance[first + k] = static_cast<T>(std::max(0.0, squares[k] / rows));
    }
  });
}

// A row of a matrix as often as rows are read at once.
template <class T>
void repeat_row(const T* row, const RowBlocks& matrix, T* repeated) {
  for (int64_t i = 0; i < matrix.width(); ++i) repeated[i] = row[i % matrix.columns];
}

// Rows for a task that goes through a matrix element by element.
inline int64_t row_grain(int64_t columns) {
  return std::max<int64_t>(1, elementwise_grain / std::max<int64_t>(1, columns));
}

template <class T>
size_t column_moments_workspace(const RowBlocks& matrix) {
  return column_sums_workspace<T>(matrix, 3);
}

// Mean and biased variance of each column of x [rows, columns], which is read from memory once.
template <class T>
void column_moments(const T* x, const RowBlocks& matrix, T* workspace, T* mean, T* variance) {
  const auto rows_of = [&](int64_t block) { return matrix.end(block) - matrix.begin(block); };
  matrix.each_block([&](int64_t, int64_t block) {
    block_moments(x + matrix.begin(block) * matrix.columns, rows_of(block) / matrix.at_once, matrix.width(),
                  workspace + block * 3 * matrix.width());
  });
  merge_moments(workspace, matrix.blocks(), matrix.columns, rows_of, mean, variance, matrix.at_once);
}

// Moves running statistics towards those of a batch of `rows` values a channel, as PyTorch does: momentum is the weight
// of the new value, and the variance kept is the unbiased one.
template <class T>
void move_running_statistics(const T* mean, const T* variance, int64_t rows, int64_t columns, double momentum,
                             T* running_mean, T* running_variance) {
  const double unbiased = static_cast<double>(rows) / static_cast<double>(rows - 1);
  for (int64_t c = 0; c < columns; ++c) {
    running_mean[c] =
        static_cast<T>((1 - momentum) * static_cast<double>(running_mean[c]) + momentum * static_cast<double>(mean[c]));
    running_variance[c] = static_cast<T>((1 - momentum) * static_cast<double>(running_variance[c]) +
                                         momentum * unbiased * static_cast<double>(variance[c]));
  }
}

// 1 / sqrt(variance + eps); result may be the variances themselves.
template <class T>
void inverse_deviation(const T* variance, int64_t channels, double eps, T* result) {
  for (int64_t c = 0; c < channels; ++c) result[c] = static_cast<T>(1 / std::sqrt(variance[c] + eps));
}

}  // namespace parabola
