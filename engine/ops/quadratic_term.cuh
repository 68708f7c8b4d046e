// The elementwise heart of the quadratic ops on CUDA (quadratic_term.h is the CPU's), for launch_on_columns: a thread
// keeps to one output. A function K(q) of the term (PAPER 6.3) would go into these two kernels, nowhere else.
#pragma once
#include <cmath>

#include "engine/ops/column_grid.cuh"

namespace parabola {

// How a_j and b_j lie in a row of products: [groups][a, b][ranks][width].
struct ProductRows {
  int64_t ranks, width, stride;  // width: outputs of a group; rows are `stride` elements apart
  // Where output k has its a_0; a_j is j * width further on, b_j another ranks * width.
  constexpr int64_t of_output(int64_t k) const { return k / width * 2 * ranks * width + k % width; }
};

// y [rows, columns] = or += scale * sum_j a_j∘b_j. A y that is added to is complete before, so that it compares equal
// to itself where the product is zero.
template <class T>
__global__ void quadratic_term_forward(ProductRows in, const T* products, T scale, T* y, bool accumulate, int64_t rows,
                                       int64_t columns) {
  const int64_t k = thread_index();
  if (k >= columns) return;
  const int64_t begin = in.of_output(k), to_b = in.ranks * in.width;
  for (int64_t row = thread_row(); row < rows; row += row_count()) {
    const T *a = products + row * in.stride + begin, *b = a + to_b;
    T sum = a[0] * b[0];
    for (int64_t j = 1; j < in.ranks; ++j) sum = std::fma(a[j * in.width], b[j * in.width], sum);
    T& out = y[row * columns + k];
    out = accumulate ? std::fma(scale, sum, out) : scale * sum;
  }
}

// da_j = scale dy∘b_j and db_j = scale dy∘a_j from dy [rows, columns], rows as those of the products, which they may
// replace.
template <class T>
__global__ void quadratic_term_backward(ProductRows in, const T* products, T scale, const T* dy, T* gradients,
                                        int64_t rows, int64_t columns) {
  const int64_t k = thread_index();
  if (k >= columns) return;
  const int64_t begin = in.of_output(k), to_b = in.ranks * in.width;
  for (int64_t row = thread_row(); row < rows; row += row_count()) {
    const T scaled = scale * dy[row * columns + k];
    for (int64_t j = 0; j < in.ranks; ++j) {
      const int64_t at = row * in.stride + begin + j * in.width;
      const T a = products[at], b = products[at + to_b];
      gradients[at] = scaled * b;
      gradients[at + to_b] = scaled * a;
    }
  }
}

}  // namespace parabola
