// A bias that is added to every row, and its gradient, on CUDA (bias.h is the CPU's).
#pragma once
#include "engine/ops/column_sums.cuh"

namespace parabola {

// A warp takes a row.
template <class T>
__global__ void bias_add(const T* bias, T* y, int64_t rows, int64_t columns) {
  for (int64_t row = thread_index() / warp_size; row < rows; row += thread_count() / warp_size)
    for (int64_t c = lane_index(); c < columns; c += warp_size) y[row * columns + c] += bias[c];
}

// y [rows, columns] += bias [columns] (null: nothing to do).
template <class T>
void device_add_bias(DeviceStream stream, const T* bias, T* y, int64_t rows, int64_t columns) {
  if (bias)
    launch(bias_add<T>, blocks_for(rows, block_size / warp_size), block_size, 0, stream, bias, y, rows, columns);
}

template <class T>
struct BiasTerm {
  const T* dy;
  int64_t columns;
  __device__ void add(int64_t row, int64_t c, Compute<T> (&sums)[1]) const { sums[0] += dy[row * columns + c]; }
};

template <class T>
struct BiasGradient {
  T* db;
  bool accumulate;
  __device__ void set(int64_t c, double sum) const { db[c] = static_cast<T>(accumulate ? db[c] + sum : sum); }
};

// db [columns] = or += the column sums of dy [rows, columns]; workspace: ColumnParts::workspace<T>(1) bytes.
template <class T>
void device_bias_gradient(DeviceStream stream, const T* dy, const ColumnParts& matrix, T* db, bool accumulate,
                          std::byte* workspace) {
  device_column_sums<1, T>(stream, matrix, workspace, BiasTerm<T>{dy, matrix.columns}, BiasGradient<T>{db, accumulate});
}

}  // namespace parabola
