// Mean and variance of the columns of a matrix on CUDA, in one pass over it (column_stats.h is the CPU's). The order of
// every sum follows from the matrix's shape, as in column_sums.cuh.
#pragma once
#include "engine/ops/column_sums.cuh"

namespace parabola {

// What is known of some of a column's values: how many, their mean, and the sum of their squared deviations from it.
struct ColumnMoments {
  double count, mean, squares;
};

// Those of rows first, first + step, ... below end. Deviations are taken from the mean of the first few, so values far
// from zero (mean 1e3, deviation 1) lose nothing; their sum makes up for what is rough in it.
template <class T>
__device__ ColumnMoments column_moments_of_rows(const T* column, int64_t columns, int64_t first, int64_t end,
                                                int64_t step) {
  if (first >= end) return {0, 0, 0};
  const int64_t count = (end - first + step - 1) / step, few = count < 8 ? count : 8;
  T rough = 0, sum = 0, squares = 0;
  for (int64_t i = 0; i < few; ++i) rough += column[(first + i * step) * columns];
  rough /= static_cast<T>(few);
  for (int64_t row = first; row < end; row += step) {
    const T deviation = column[row * columns] - rough;
    sum += deviation;
    squares = std::fma(deviation, deviation, squares);
  }
  const double n = static_cast<double>(count), off = sum / n;
  return {n, rough + off, squares - off * sum};
}

// partials [parts][columns]. A lane has a column; each of a block's warps takes every eighth row of a part.
template <class T>
__global__ void column_moments_of_parts(const T* x, int64_t rows, int64_t columns, int64_t part_rows,
                                        ColumnMoments* partials) {
  ColumnMoments* shared = shared_memory<ColumnMoments>();  // [warps][32]
  const int threads = static_cast<int>(blockDim.x);
  const int64_t column = int64_t{blockIdx.x} * warp_size + lane_index();
  for (int64_t part = blockIdx.y; part * part_rows < rows; part += gridDim.y) {
    const int64_t first = part * part_rows, end = first + part_rows < rows ? first + part_rows : rows;
    if (column < columns)
      shared[threadIdx.x] = column_moments_of_rows(x + column, columns, first + warp_index(), end, warps_in_block());
    __syncthreads();
    if (warp_index() == 0 && column < columns) {
      const double count = static_cast<double>(end - first);
      double sum = 0, squares = 0;
      for (int i = lane_index(); i < threads; i += warp_size) sum += shared[i].count * shared[i].mean;
      const double mean = sum / count;
      for (int i = lane_index(); i < threads; i += warp_size) {
        const double off = shared[i].mean - mean;
        squares += shared[i].squares + shared[i].count * off * off;
      }
      partials[part * columns + column] = {count, mean, squares};
    }
    __syncthreads();
  }
}

// finish.set(column, mean, variance), both in double, the variance biased: a warp to a column. Squares within the parts
// plus squares of the parts' means (Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing
// sample variances", 1979, with all parts at once).
template <class Finish>
__global__ void column_moments_of_all(const ColumnMoments* partials, int64_t parts, int64_t rows, int64_t columns,
                                      Finish finish) {
  for (int64_t column = thread_index() / warp_size; column < columns; column += thread_count() / warp_size) {
    const double count = static_cast<double>(rows);
    double sum = 0, squares = 0;
    for (int64_t part = lane_index(); part < parts; part += warp_size) {
      const ColumnMoments& moments = partials[part * columns + column];
      sum += moments.count * moments.mean;
    }
    const double mean = warp_reduce(sum, Sum()) / count;
    for (int64_t part = lane_index(); part < parts; part += warp_size) {
      const ColumnMoments& moments = partials[part * columns + column];
      const double off = moments.mean - mean;
      squares += moments.squares + moments.count * off * off;
    }
    squares = warp_reduce(squares, Sum());
    if (lane_index() == 0) finish.set(column, mean, squares > 0 ? squares / count : 0);
  }
}

// Where the statistics of a batch of `rows` values a channel go. Running ones move where they are not null: as in
// PyTorch, momentum is the weight of the new value, and the variance kept is the unbiased one.
template <class T>
struct BatchStatistics {
  T *mean, *rstd, *running_mean, *running_variance;
  double momentum, eps, rows;
  __device__ void set(int64_t c, double centre, double variance) const {
    mean[c] = static_cast<T>(centre);
    rstd[c] = static_cast<T>(1 / std::sqrt(variance + eps));
    if (!running_mean) return;
    running_mean[c] = static_cast<T>((1 - momentum) * running_mean[c] + momentum * centre);
    running_variance[c] =
        static_cast<T>((1 - momentum) * running_variance[c] + momentum * (rows / (rows - 1)) * variance);
  }
};

inline size_t device_column_moments_workspace(const ColumnParts& matrix) {
  return static_cast<size_t>(matrix.parts() * matrix.columns) * sizeof(ColumnMoments);
}

// x [rows, columns]; finish is a struct of pointers and numbers with a __device__ member set.
template <class T, class Finish>
void device_column_moments(DeviceStream stream, const T* x, const ColumnParts& matrix, std::byte* workspace,
                           const Finish& finish) {
  ColumnMoments* partials = reinterpret_cast<ColumnMoments*>(workspace);
  const int64_t tiles = (matrix.columns + warp_size - 1) / warp_size;
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(matrix.parts()));
  launch(column_moments_of_parts<T>, grid, block_size, block_size * sizeof(ColumnMoments), stream, x, matrix.rows,
         matrix.columns, matrix.part_rows(), partials);
  launch(column_moments_of_all<Finish>, blocks_for(matrix.columns, block_size / warp_size), block_size, 0, stream,
         partials, matrix.parts(), matrix.rows, matrix.columns, finish);
}

}  // namespace parabola
