// How gemm.cc copies pieces of its factors to where its kernel reads them side by side: B as panels, A as strips.
#pragma once
#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/blas/gemm.h"
#include "engine/blas/vector.h"

namespace parabola {

// How deep a product is done at a time, the sums going on from C: a packed panel of B then stays in the first level of
// cache (with AVX-512 half of it: 64 KiB; less depth loses more by reading and writing C), what is packed of a tile in
// the second.
template <class T>
constexpr int64_t max_depth = 1024 / sizeof(T);

// Sums kept in registers: `rows` x `vectors` of them, beside one row of B and one broadcast element of A. Six rows,
// since each has a pointer (but by columns), and x86-64 has 15 registers for these.
constexpr int kernel_rows = 6;
constexpr int kernel_vectors = many_registers ? 4 : 2;
// Where C is narrower than a panel, there is room for more sums, in whose shadow the reloading of pointers passes.
constexpr int narrow_rows = 8;

template <class T>
constexpr int64_t panel_columns = kernel_vectors* vector_lanes<T>;

// The lanes of 2 x 2 blocks of `half` x `half` lanes, in two rows `half` apart, change places across the diagonal.
template <int half, class T, size_t... lane>
[[gnu::always_inline]] inline void swap_halves(Vector<T>& upper, Vector<T>& lower, std::index_sequence<lane...>) {
  constexpr int lanes = vector_lanes<T>;
  const Vector<T> u = upper, l = lower;
  upper = __builtin_shufflevector(u, l, (int{lane} & half ? lanes + int{lane} - half : int{lane})...);
  lower = __builtin_shufflevector(u, l, (int{lane} & half ? lanes + int{lane} : int{lane} + half)...);
}

// A square of as many rows as a vector has lanes, transposed in registers.
template <class T, int half = vector_lanes<T> / 2>
[[gnu::always_inline]] inline void transpose(Vector<T>* rows) {
  if constexpr (half > 0) {
#pragma GCC unroll 16
    for (int i = 0; i < vector_lanes<T>; ++i)
      if (!(i & half)) swap_halves<half, T>(rows[i], rows[i + half], std::make_index_sequence<vector_lanes<T>>{});
    transpose<T, half / 2>(rows);
  }
}

// Panels of B that are packed, or, packed before, multiplied at once: together, at most 256 KiB, they stay in the
// second level of cache. They lie some elements apart, so that a row of B is not spread over the same set of the first
// level.
constexpr int64_t group_panels = many_registers ? 4 : 16;
template <class T>
constexpr int64_t panel_distance = (max_depth<T> + 1) * panel_columns<T>;

// From row to row of a panel of so many columns: whole vectors. A narrow panel has short rows, or it would fill a part
// of the first level's sets only.
template <class T>
constexpr int64_t panel_stride(int64_t width) {
  constexpr int64_t lanes = vector_lanes<T>;
  return std::min(panel_columns<T>, (width + lanes - 1) / lanes * lanes);
}

// One panel of at most panel_columns columns: rows [0, depth) of op(B), zeros beyond the width.
template <class T>
void pack_transposed(const Factor<T>& b, int64_t depth, int64_t width, T* packed) {
  constexpr int64_t lanes = vector_lanes<T>;
  const int64_t columns = panel_stride<T>(width);
  for (int64_t j = 0; j < width; j += lanes) {
    const int64_t rows = std::min(lanes, width - j);
    const T* from = b.data + j * b.stride;
    int64_t p = 0;
    for (; rows == lanes && p + lanes <= depth; p += lanes) {
      Vector<T> square[lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) square[i] = load_vector(from + i * b.stride + p);
      transpose<T>(square);
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) store_vector(packed + (p + i) * columns + j, square[i]);
    }
    for (; p < depth; ++p)
      for (int64_t i = 0; i < rows; ++i) packed[p * columns + j + i] = from[i * b.stride + p];
  }
}

// Pieces of rows that lie far apart, often in pages of their own, come late if nobody asks early: so many rows ahead.
constexpr int64_t prefetch_distance = 16;
template <class T>
constexpr int64_t line_elements = 64 / sizeof(T);

// `width` columns of op(B), rows [0, depth), as panels `distance` apart, zeros beyond the last column.
template <class T>
void pack(const Factor<T>& b, int64_t depth, int64_t width, T* packed, int64_t distance = panel_distance<T>) {
  constexpr int64_t lanes = vector_lanes<T>, columns = panel_columns<T>;
  const int64_t whole = width / columns * columns, rest = width - whole, rest_stride = panel_stride<T>(rest);
  T* last = packed + whole / columns * distance;
  std::fill_n(last, depth * rest_stride, T(0));
  if (b.transposed) {
    for (int64_t j = 0; j < width; j += columns)
      pack_transposed(b.at(0, j), depth, std::min(columns, width - j), packed + j / columns * distance);
    return;
  }
  for (int64_t p = 0; p < depth; ++p) {
    const T* from = b.data + p * b.stride;
    T* to = packed + p * columns;
    for (int64_t j = 0; j < width; j += line_elements<T>) __builtin_prefetch(from + prefetch_distance * b.stride + j);
    for (int64_t j = 0; j < whole; j += columns, from += columns, to += distance)
#pragma GCC unroll 4
      for (int v = 0; v < kernel_vectors; ++v) store_vector(to + v * lanes, load_vector(from + v * lanes));
    for (int64_t j = 0; j < rest; ++j) last[p * rest_stride + j] = from[j];
  }
}

// Rows of A packed at once: several strips, since those of a transposed A lie in the same lines of the cache.
constexpr int64_t packed_rows = 48;
static_assert(packed_rows % kernel_rows == 0);

// Strips of A, each of kernel_rows rows: p by p what the kernel broadcasts. A strip's last vectors reach beyond its
// end, so they lie some elements apart (and so not all in the same sets of the cache).
template <class T>
constexpr int64_t strip_distance = kernel_rows* max_depth<T> + vector_lanes<T>;

// `rows` rows of op(A) as strips.
template <class T>
void pack_strips(const Factor<T>& a, int64_t rows, int64_t depth, T* packed) {
  constexpr int64_t lanes = vector_lanes<T>, squares = (kernel_rows + lanes - 1) / lanes;
  if (a.transposed) {
    const int64_t whole_strips = rows / kernel_rows;
    for (int64_t p = 0; p < depth; ++p) {
      const T* from = a.data + p * a.stride;
      T* to = packed + p * kernel_rows;
      for (int64_t line = 0; line < rows; line += line_elements<T>)
        __builtin_prefetch(from + prefetch_distance * a.stride + line);
      for (int64_t strip = 0; strip < whole_strips; ++strip, from += kernel_rows, to += strip_distance<T>)
        std::memcpy(to, from, kernel_rows * sizeof(T));
      for (int64_t i = 0; i < rows % kernel_rows; ++i) to[i] = from[i];
    }
    return;
  }
  for (int64_t i = 0; i < rows; i += kernel_rows, packed += strip_distance<T>) {
    const T* from = a.data + i * a.stride;
    const int64_t count = std::min<int64_t>(kernel_rows, rows - i);
    int64_t p = 0;
    for (; p + lanes <= depth; p += lanes) {
      Vector<T> square[squares][lanes];
#pragma GCC unroll 8
      for (int s = 0; s < squares; ++s) {
#pragma GCC unroll 16
        for (int r = 0; r < lanes; ++r)
          square[s][r] = load_vector(from + std::min<int64_t>(s * lanes + r, count - 1) * a.stride + p);
        transpose<T>(square[s]);
      }
#pragma GCC unroll 16
      for (int q = 0; q < lanes; ++q)
#pragma GCC unroll 8
        for (int s = 0; s < squares; ++s) store_vector(packed + (p + q) * kernel_rows + s * lanes, square[s][q]);
    }
    for (; p < depth; ++p)
      for (int64_t r = 0; r < count; ++r) packed[p * kernel_rows + r] = from[r * a.stride + p];
  }
}

}  // namespace parabola
