// The elementwise heart of the quadratic ops on CUDA (quadratic_term.h is the CPU's), for launch_on_columns: a thread
// keeps to one output. A function K(q) of the term (PAPER 6.3) would go into these two kernels, nowhere else.
#pragma once
#include <cmath>

#include "engine/ops/column_grid.cuh"

namespace parabola {

// How a_j lie in rows `stride` elements apart, and b_j alike from a pointer of their own: [groups][ranks][width], each
// group `group_stride` elements further on.
struct ProductRows {
  int64_t ranks, width, stride, group_stride = 0;  // width: outputs of a group
  // Where output k has its a_0; a_j is j * width further on.
  constexpr int64_t of_output(int64_t k) const { return k / width * group_stride + k % width; }
};

// y [rows, columns] = or += scale * sum_j a_j∘b_j. A y that is added to is complete before, so that it compares equal
// to itself where the product is zero.
template <class T>
__global__ void quadratic_term_forward(ProductRows in, const T* a, const T* b, T scale, T* y, bool accumulate,
                                       int64_t rows, int64_t columns) {
  const int64_t k = thread_index();
  if (k >= columns) return;
  const int64_t begin = in.of_output(k);
  for (int64_t row = thread_row(); row < rows; row += row_count()) {
    const int64_t at = row * in.stride + begin;
    T sum = a[at] * b[at];
    for (int64_t j = 1; j < in.ranks; ++j) sum = std::fma(a[at + j * in.width], b[at + j * in.width], sum);
    T& out = y[row * columns + k];
    out = accumulate ? std::fma(scale, sum, out) : scale * sum;
  }
}

// da_j = scale dy∘b_j and db_j = scale dy∘a_j from dy [rows, columns], null where not wanted; then the other factor is
// not read. They lie as a and b do, which they may replace.
template <class T>
__global__ void quadratic_term_backward(ProductRows in, const T* a, const T* b, T scale, const T* dy, T* da, T* db,
                                        int64_t rows, int64_t columns) {
  const int64_t k = thread_index();
  if (k >= columns) return;
  const int64_t begin = in.of_output(k);
  for (int64_t row = thread_row(); row < rows; row += row_count()) {
    const T scaled = scale * dy[row * columns + k];
    for (int64_t j = 0; j < in.ranks; ++j) {
      const int64_t at = row * in.stride + begin + j * in.width;
      const T old_a = db ? a[at] : T(0), old_b = da ? b[at] : T(0);
      if (da) da[at] = scaled * old_b;
      if (db) db[at] = scaled * old_a;
    }
  }
}

}  // namespace parabola
