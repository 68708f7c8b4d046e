// Kernels that work on the rows of a matrix, a warp to a row: norms and softmax.
#pragma once
#include "engine/cuda/warp.cuh"

namespace parabola {

// This warp among all of the grid, and how many there are:
//   for (int64_t row = first_row(); row < rows; row += row_step()) ...
__device__ inline int64_t first_row() { return thread_index() / warp_size; }
__device__ inline int64_t row_step() { return thread_count() / warp_size; }

inline dim3 blocks_for_rows(int64_t rows) { return blocks_for(rows, block_size / warp_size); }

// The sum of term(c) over a row's columns; every lane gets it.
template <class T, class Term>
__device__ T row_sum(int64_t columns, Term term) {
  T sum = 0;
  for (int64_t c = lane_index(); c < columns; c += warp_size) sum += term(c);
  return warp_reduce(sum, Sum());
}

}  // namespace parabola
