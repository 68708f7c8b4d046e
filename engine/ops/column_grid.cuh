// A grid over a matrix [rows, columns] in which a thread keeps to one column, so that it reads once what all rows share
// (a bias, the statistics of a channel). Neighbouring threads have neighbouring columns. For kernels in which every
// element is on its own; column_sums.cuh adds columns up.
//
//   launch_on_columns(add_bias<T>, stream, rows, columns, bias, y, rows, columns);
//
// with a kernel that does
//
//   const int64_t c = thread_index();
//   if (c >= columns) return;
//   const T value = bias[c];
//   for (int64_t row = thread_row(); row < rows; row += row_count()) y[row * columns + c] += value;
#pragma once
#include <algorithm>

#include "engine/cuda/launch.cuh"

namespace parabola {

// The first row of this thread, and how many rows further on its next one is. Its column is thread_index().
__device__ inline int64_t thread_row() { return int64_t{blockIdx.y} * blockDim.y + threadIdx.y; }
__device__ inline int64_t row_count() { return int64_t{gridDim.y} * blockDim.y; }

template <class... Parameters, class... Arguments>
void launch_on_columns(void (*kernel)(Parameters...), DeviceStream stream, int64_t rows, int64_t columns,
                       Arguments&&... arguments) {
  int width = 1;  // a block's columns; the narrower the matrix, the more rows a block has
  while (width < block_size && width < columns) width *= 2;
  const int height = block_size / width;
  const int64_t across = (columns + width - 1) / width, down = (rows + height - 1) / height;
  const int64_t most = std::max<int64_t>(1, most_blocks / std::max<int64_t>(1, across));
  const dim3 grid(static_cast<unsigned>(across), static_cast<unsigned>(std::min(down, most)));
  launch(kernel, grid, dim3(static_cast<unsigned>(width), static_cast<unsigned>(height)), 0, stream,
         std::forward<Arguments>(arguments)...);
}

}  // namespace parabola
