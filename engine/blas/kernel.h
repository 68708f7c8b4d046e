// The kernel of gemm.cc: a block of C in registers, past which A and B stream.
#pragma once
#include <algorithm>

#include "engine/blas/packing.h"
#include "engine/blas/vector.h"

namespace parabola::gemm_kernel {

// `length` steps of the inner axis for which A's elements lie side by side, or evenly; `offset` from where A's rows
// begin.
struct Run {
  int64_t offset, length;
};

// A block of the inner axis: A's runs, `step` between their elements. A step of 1: rows of A, which lie anywhere.
// Otherwise its columns: one run, and in a column as many rows as `side_by_side` says lie so.
struct Inner {
  const Run* runs;
  int64_t number, step, side_by_side;
};

// Rows of B: evenly spaced, or of patches.
template <class T>
struct EvenRowsOfB {
  const T* data;
  int64_t stride;
  const T* operator()(int64_t p) const { return data + p * stride; }
};
template <class T>
struct PatchRowsOfB {
  const T* data;
  const int64_t* rows;
  const T* operator()(int64_t p) const { return data + rows[p]; }
};

template <class T>
alignas(64) constexpr T zeros[panel_columns<T>] = {};

// Where the sums of C [i, j] begin: at what C holds, at a bias for every column, at zero. column: 1, or 0 where all
// panels begin alike.
template <class T>
struct Start {
  const T* data;
  int64_t row, column;
  Start at(int64_t i, int64_t j) const { return {data + i * row + j * column, row, column}; }
};

// C [rows, vectors * lanes] = what `start` shows + A B. Row i of A begins at a[i], or, by columns, at a[0] + i; row p
// of B at row_of_b(p), rows of C are c_stride apart. Each element is one chain of fused multiply-adds in the order of
// p. There is at least one run and one p: loops that may end before they begin cost a copy of all the sums. Columns,
// for which this is little, go two by two: what is read comes from the second level of cache then, and the fewer
// instructions there are between the loads, the more of those are on their way. Not inlined: beside other kernels
// g++ 12 runs out of registers for the pointers, and keeps them in vector registers, which takes a third of the speed.
template <int rows, int vectors, bool by_columns, class T, class RowOfB>
[[gnu::noinline]] void kernel(const Inner& inner, const T* const* a, const RowOfB& row_of_b, T* c, int64_t c_stride,
                              const Start<T>& start) {
  constexpr int64_t lanes = vector_lanes<T>;
  Vector<T> sum[rows][vectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sum[i][v] = load_vector(start.data + i * start.row + v * lanes);
      if (v * vector_bytes % 64 == 0)
        __builtin_prefetch(c + (rows + i) * c_stride + v * lanes, 1);  // where the next rows' sums go
    }
  }
  const auto multiply = [&](int64_t p, const auto& of_row) __attribute__((always_inline)) {
    const T* b = row_of_b(p);
    Vector<T> of_b[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) of_b[v] = load_vector(b + v * lanes);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const Vector<T> of_a = broadcast(of_row(i));
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[i][v] = multiply_add<T>(of_a, of_b[v], sum[i][v]);
    }
  };
  if constexpr (by_columns) {
    const T* column = a[0] + inner.runs->offset;
    const auto next = [&](int64_t p) __attribute__((always_inline)) {
      multiply(p, [=](int i) { return column[i]; });
      column += inner.step;
    };
    const int64_t depth = inner.runs->length;
    int64_t p = depth % 2;
    if (p != 0) next(0);
    for (; p < depth; p += 2) next(p), next(p + 1);
  } else {
    const Run* run = inner.runs;
    int64_t p = 0;
    do {
      const T* from[rows];
      for (int i = 0; i < rows; ++i) from[i] = a[i] + run->offset;
      int64_t at = 0;
      const int64_t end = p + run->length;
      do {
        multiply(p, [&](int i) { return from[i][at]; });
        ++at;
      } while (++p < end);
    } while (++run < inner.runs + inner.number);
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) store_vector(c + i * c_stride + v * lanes, sum[i][v]);
}

// The kernel for `width` columns, at most a panel's. It writes whole vectors, so where the columns are no whole number
// of them it works on a copy.
template <int rows, int vectors, bool by_columns, class T, class RowOfB>
void panel(int64_t width, const Inner& inner, const T* const* a, const RowOfB& row_of_b, T* c, int64_t c_stride,
           const Start<T>& start) {
  if constexpr (vectors > 1)
    if (width <= (vectors - 1) * vector_lanes<T>)
      return panel<rows, vectors - 1, by_columns, T>(width, inner, a, row_of_b, c, c_stride, start);
  constexpr int64_t columns = vectors * vector_lanes<T>;
  if (width == columns) return kernel<rows, vectors, by_columns, T>(inner, a, row_of_b, c, c_stride, start);
  alignas(64) T edge[2 * rows * columns];  // twice: the kernel prefetches the rows that would come next
  for (int r = 0; r < rows; ++r) std::copy_n(start.at(r, 0).data, width, edge + r * columns);
  kernel<rows, vectors, by_columns, T>(inner, a, row_of_b, edge, columns, {edge, columns, 1});
  for (int r = 0; r < rows; ++r) std::copy_n(edge + r * columns, width, c + r * c_stride);
}

}  // namespace parabola::gemm_kernel
