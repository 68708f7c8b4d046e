#include "engine/blas/gemm.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/blas/vector.h"
#include "engine/core/thread_pool.h"

namespace parabola {
namespace {

// What a packed panel of B takes at most: deeper products are done in pieces of this depth, the sums going on from C.
constexpr int64_t max_depth = many_registers ? 512 : 256;

// Sums kept in registers: `rows` x `vectors` of them, beside one row of B and one broadcast element of A.
constexpr int kernel_rows = many_registers ? 8 : 6;
constexpr int kernel_vectors = many_registers ? 3 : 2;

// Pieces of at most `limit`, all alike but the last: whole multiples of the kernel's step, where there is more than
// one.
Tiles even_tiles(int64_t count, int64_t limit, int64_t step) {
  const int64_t pieces = std::max<int64_t>(1, (count + limit - 1) / limit);
  const int64_t size = (count + pieces - 1) / pieces;
  return {count, pieces == 1 ? std::max<int64_t>(1, count) : std::min(limit, (size + step - 1) / step * step)};
}

// `length` steps of the inner axis for which A's elements lie side by side, or evenly; `offset` from where A's rows
// begin.
struct Run {
  int64_t offset, length;
};

// A block of the inner axis: A's runs, `step` between their elements.
struct Inner {
  const Run* runs;
  int64_t number, step;
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

// C [rows, vectors * lanes] = or += A B. Row i of A begins at a[i], row p of B at row_of_b(p), rows of C are c_stride
// apart. Each element is one chain of fused multiply-adds in the order of p.
template <int rows, int vectors, class T, class RowOfB>
void kernel(const Inner& inner, const T* const* a, const RowOfB& row_of_b, T* c, int64_t c_stride, bool accumulate) {
  constexpr int64_t lanes = vector_lanes<T>;
  Vector<T> sum[rows][vectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sum[i][v] = accumulate ? load_vector(c + i * c_stride + v * lanes) : Vector<T>{};
  int64_t p = 0;
  for (const Run* run = inner.runs; run < inner.runs + inner.number; ++run) {
    const T* from[rows];
    for (int i = 0; i < rows; ++i) from[i] = a[i] + run->offset;
    for (int64_t q = 0, at = 0; q < run->length; ++q, ++p, at += inner.step) {
      const T* b = row_of_b(p);
      Vector<T> of_b[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) of_b[v] = load_vector(b + v * lanes);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const Vector<T> of_a = broadcast(from[i][at]);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sum[i][v] = multiply_add<T>(of_a, of_b[v], sum[i][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) store_vector(c + i * c_stride + v * lanes, sum[i][v]);
}

// All m rows of one panel of C, `width` columns of it, the last rows in smaller steps. The kernel writes whole vectors,
// so where the columns are no whole number of them it works on a copy.
template <int vectors, class T, class RowOfA, class RowOfB>
void panel(int64_t m, int64_t width, const Inner& inner, const RowOfA& row_of_a, const RowOfB& row_of_b, T* c,
           int64_t c_stride, bool accumulate) {
  constexpr int64_t columns = vectors * vector_lanes<T>;
  int64_t i = 0;
  const auto run = [&]<int rows>() {
    for (; i + rows <= m; i += rows) {
      const T* a[rows];
      for (int r = 0; r < rows; ++r) a[r] = row_of_a(i + r);
      T* to = c + i * c_stride;
      if (width == columns) {
        kernel<rows, vectors, T>(inner, a, row_of_b, to, c_stride, accumulate);
      } else {
        alignas(64) T edge[rows * columns];
        for (int r = 0; accumulate && r < rows; ++r) std::copy_n(to + r * c_stride, width, edge + r * columns);
        kernel<rows, vectors, T>(inner, a, row_of_b, edge, columns, accumulate);
        for (int r = 0; r < rows; ++r) std::copy_n(edge + r * columns, width, to + r * c_stride);
      }
    }
  };
  run.template operator()<kernel_rows>();
  run.template operator()<4>();
  run.template operator()<2>();
  run.template operator()<1>();
}

// Calls with_vectors<vectors>() for as many vectors as `width` columns take, at most a panel's.
template <class T, class WithVectors>
void dispatch_vectors(int64_t width, const WithVectors& with_vectors) {
  const int64_t vectors = (width + vector_lanes<T> - 1) / vector_lanes<T>;
  if (vectors == 1) return with_vectors.template operator()<1>();
  if (vectors == 2) return with_vectors.template operator()<2>();
  with_vectors.template operator()<kernel_vectors>();
}

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

// Rows [0, k) of `width` columns of op(B) as a panel with rows of `padded` elements, zeros beyond the width.
template <class T>
void pack(const Factor<T>& b, int64_t k, int64_t width, int64_t padded, T* packed) {
  constexpr int64_t lanes = vector_lanes<T>;
  if (width < padded) std::fill_n(packed, k * padded, T(0));
  if (!b.transposed) {
    // As vectors where they are whole: quicker than a call for every row.
    if (width % lanes == 0)
      for (int64_t j = 0; j < width; j += lanes)
        for (int64_t p = 0; p < k; ++p) store_vector(packed + p * padded + j, load_vector(b.data + p * b.stride + j));
    else
      for (int64_t p = 0; p < k; ++p) std::copy_n(b.data + p * b.stride, width, packed + p * padded);
    return;
  }
  const int64_t whole = k / lanes * lanes;
  for (int64_t j = 0; j < width; j += lanes) {
    const int64_t columns = std::min(lanes, width - j);
    const T* from = b.data + j * b.stride;
    int64_t p = 0;
    for (; columns == lanes && p < whole; p += lanes) {
      Vector<T> square[lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) square[i] = load_vector(from + i * b.stride + p);
      transpose<T>(square);
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) store_vector(packed + (p + i) * padded + j, square[i]);
    }
    for (; p < k; ++p)
      for (int64_t i = 0; i < columns; ++i) packed[p * padded + j + i] = from[i * b.stride + p];
  }
}

// Rows of A at once when they are copied: they stay in the second level of cache.
constexpr int64_t strip_rows = 12 * kernel_rows;

// A's rows and the runs of its inner axis. The columns of a transposed A are far apart in memory, often by a power of
// 2, which the first level of cache cannot hold: where they are read by several panels they are copied into strips.
template <class T>
struct EvenRows {
  Factor<T> a;
  int64_t m, k;
  bool strips;

  template <class RunBlock>
  void each_block(int64_t begin, int64_t depth, const RunBlock& run) const {
    if (!strips) {
      const int64_t step = a.transposed ? a.stride : 1;
      const Run whole{begin * step, depth};
      return run(0, m, Inner{&whole, 1, step}, [&](int64_t i) { return a.at(i, 0).data; });
    }
    alignas(64) T copied[strip_rows * max_depth + strip_rows / kernel_rows * vector_lanes<T>];
    const int64_t distance = kernel_rows * depth + vector_lanes<T>;  // of strips: not all in the same sets of the cache
    const Run whole{0, depth};
    for (int64_t first = 0; first < m; first += strip_rows) {
      const int64_t rows = std::min(strip_rows, m - first);
      const auto row = [&](int64_t i) { return copied + i / kernel_rows * distance + i % kernel_rows; };
      const int64_t whole_strips = rows / kernel_rows;
      for (int64_t p = 0; p < depth; ++p) {
        const T* from = a.at(first, begin + p).data;
        T* to = copied + p * kernel_rows;
        for (int64_t strip = 0; strip < whole_strips; ++strip, from += kernel_rows, to += distance)
          std::memcpy(to, from, kernel_rows * sizeof(T));
        for (int64_t i = 0; i < rows % kernel_rows; ++i) to[i] = from[i];
      }
      run(first, rows, Inner{&whole, 1, kernel_rows}, row);
    }
  }
};
template <class T>
struct PatchRows {
  Patches<T> a;
  int64_t m, k;

  template <class RunBlock>
  void each_block(int64_t begin, int64_t depth, const RunBlock& run) const {
    Run runs[max_depth];
    int64_t number = 0;
    for (int64_t p = begin, length; p < begin + depth; p += length) {
      const int64_t tap = p / a.width, within = p % a.width;
      length = std::min(a.width - within, begin + depth - p);
      runs[number++] = {tap / a.taps[1] * a.jumps[0] + tap % a.taps[1] * a.jumps[1] + within, length};
    }
    run(0, m, Inner{runs, number, 1}, [&](int64_t i) { return a.data + a.rows[i]; });
  }
};

// Calls run(first row, rows, inner axis, where a row begins, begin of the inner axis' block, its depth, whether it is
// added to what C holds) for every block of A.
template <class Rows, class RunBlock>
void each_block(const Rows& rows, bool accumulate, const RunBlock& run) {
  for (int64_t begin = 0; begin == 0 || begin < rows.k; begin += max_depth) {
    const int64_t depth = std::min(max_depth, rows.k - begin);
    rows.each_block(begin, depth, [&](int64_t first, int64_t count, const Inner& inner, const auto& row) {
      run(first, count, inner, row, begin, depth, accumulate || begin > 0);
    });
  }
}

}  // namespace

int64_t panel_elements(int64_t n, int64_t k) {
  constexpr int64_t widest = panel_columns<float>;
  return (n + widest - 1) / widest * widest * k;
}

template <class T>
Panels<T> pack_panels(int64_t n, int64_t k, const Factor<T>& b, T* to) {
  constexpr int64_t columns = panel_columns<T>;
  parallel_for((n + columns - 1) / columns, 1, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin * columns; j < std::min(n, end * columns); j += columns)
      pack(b.at(0, j), k, std::min(columns, n - j), columns, to + j * k);
  });
  return {to, k};
}

template <class T>
void tile_product(int64_t m, int64_t n, int64_t k, const Factor<T>& a, const Factor<T>& b, T* c, int64_t stride,
                  bool accumulate) {
  constexpr int64_t lanes = vector_lanes<T>, columns = panel_columns<T>;
  alignas(64) T packed[max_depth * columns];
  // A copy of B costs little beside many rows; few rows read whole vectors of it where they lie.
  const bool copies = b.transposed || m > 2 * kernel_rows;
  const EvenRows<T> rows{a, m, k, a.transposed && n > columns};
  each_block(
      rows, accumulate,
      [&](int64_t first, int64_t count, const Inner& inner, const auto& row, int64_t begin, int64_t depth, bool add) {
        for (int64_t j = 0; j < n;) {
          int64_t width = std::min(columns, n - j);
          if (!copies && width > lanes) width = width / lanes * lanes;
          Factor<T> of_b = b.at(begin, j);
          if (copies || width < lanes) {
            const int64_t padded = (width + lanes - 1) / lanes * lanes;
            pack(of_b, depth, width, padded, packed);
            of_b = {packed, padded};
          }
          dispatch_vectors<T>(width, [&]<int vectors>() {
            panel<vectors, T>(count, width, inner, row, EvenRowsOfB<T>{of_b.data, of_b.stride}, c + first * stride + j,
                              stride, add);
          });
          j += width;
        }
      });
}

template <class T>
void tile_product(int64_t m, int64_t n, const Patches<T>& a, const Panels<T>& b, T* c, int64_t stride,
                  bool accumulate) {
  const PatchRows<T> rows{a, m, a.columns()};
  each_block(rows, accumulate,
             [&](int64_t, int64_t, const Inner& inner, const auto& row, int64_t begin, int64_t, bool add) {
               for (int64_t j = 0; j < n; j += panel_columns<T>) {
                 const int64_t width = std::min(panel_columns<T>, n - j);
                 const T* from = b.data + j * b.k + begin * panel_columns<T>;
                 dispatch_vectors<T>(width, [&]<int vectors>() {
                   panel<vectors, T>(m, width, inner, row, EvenRowsOfB<T>{from, panel_columns<T>}, c + j, stride, add);
                 });
               }
             });
}

template <class T>
void tile_product(int64_t m, int64_t k, const Factor<T>& a, const Patches<T>& b, T* c, int64_t stride,
                  bool accumulate) {
  const EvenRows<T> rows{a, m, k, a.transposed && b.columns() > panel_columns<T>};
  each_block(rows, accumulate,
             [&](int64_t first, int64_t count, const Inner& inner, const auto& row, int64_t begin, int64_t, bool add) {
               for (int64_t run = 0; run < b.taps[0] * b.taps[1]; ++run) {
                 const T* from = b.data + run / b.taps[1] * b.jumps[0] + run % b.taps[1] * b.jumps[1];
                 for (int64_t j = 0; j < b.width; j += panel_columns<T>) {
                   const int64_t width = std::min(panel_columns<T>, b.width - j);
                   dispatch_vectors<T>(width, [&]<int vectors>() {
                     panel<vectors, T>(count, width, inner, row, PatchRowsOfB<T>{from + j, b.rows + begin},
                                       c + first * stride + run * b.width + j, stride, add);
                   });
                 }
               }
             });
}

template <class T>
bool fill_bias(int64_t m, int64_t n, const T* bias, T* y, int64_t stride) {
  for (int64_t i = 0; bias && i < m; ++i) std::copy_n(bias, n, y + i * stride);
  return bias != nullptr;
}

template <class T>
void affine_tile(int64_t m, int64_t n, int64_t k, const Factor<T>& a, const Factor<T>& b, const T* bias, T* y,
                 int64_t stride) {
  tile_product(m, n, k, a, b, y, stride, fill_bias(m, n, bias, y, stride));
}

Tiles row_tiles(int64_t m) { return even_tiles(m, m < 1024 ? 64 : 256, 8); }
Tiles column_tiles(int64_t n) { return even_tiles(n, 192, 48); }

namespace {

// How gemm cuts its work. A long inner axis is cut itself, so rows of C need not be cut short for the sake of many
// tasks, and what is read lies side by side.
struct Cut {
  Tiles rows, columns, inner;
  int64_t parts;  // of the inner axis, so that there are some 32 tasks; none shorter than 256
  Cut(int64_t m, int64_t n, int64_t k)
      : rows(k < 4096 ? row_tiles(m) : even_tiles(m, 256, 8)), columns(column_tiles(n)) {
    const int64_t tiles = std::max<int64_t>(1, rows.number() * columns.number());
    const int64_t most = std::clamp<int64_t>(k / 256, 1, std::max<int64_t>(1, 32 / tiles));
    inner = {k, std::max<int64_t>(1, (k + most - 1) / most)};
    parts = std::max<int64_t>(1, inner.number());
  }
};

}  // namespace

int64_t gemm_workspace(int64_t m, int64_t n, int64_t k) {
  const int64_t parts = Cut(m, n, k).parts;
  return parts > 1 ? parts * m * n : 0;
}

template <class T>
void add_parts(const T* parts, int64_t number, int64_t count, T* out, bool accumulate) {
  parallel_for(count, 4096, [&](int64_t begin, int64_t end) {
    if (!accumulate) std::fill(out + begin, out + end, T(0));
    for (int64_t part = 0; part < number; ++part)
      for (int64_t i = begin; i < end; ++i) out[i] += parts[part * count + i];
  });
}

template <class T>
void gemm(int64_t m, int64_t n, int64_t k, const Factor<T>& a, const Factor<T>& b, T* c, bool accumulate,
          T* workspace) {
  const Cut cut(m, n, k);
  const Tiles &rows = cut.rows, &columns = cut.columns, &inner = cut.inner;
  const int64_t parts = cut.parts;
  thread_pool().run(parts * rows.number() * columns.number(), [&](int64_t task, int) {
    const int64_t part = task % parts, row = task / parts / columns.number(), column = task / parts % columns.number();
    const int64_t i = rows.begin(row), j = columns.begin(column), k0 = parts == 1 ? 0 : inner.begin(part);
    T* out = parts == 1 ? c : workspace + part * m * n;
    tile_product(rows.length(row), columns.length(column), parts == 1 ? k : inner.length(part), a.at(i, k0),
                 b.at(k0, j), out + i * n + j, n, parts == 1 && accumulate);
  });
  if (parts > 1) add_parts(workspace, parts, m * n, c, accumulate);
}

#define PARABOLA_GEMM(T)                                                                                           \
  template Panels<T> pack_panels(int64_t, int64_t, const Factor<T>&, T*);                                          \
  template void tile_product(int64_t, int64_t, int64_t, const Factor<T>&, const Factor<T>&, T*, int64_t, bool);    \
  template void tile_product(int64_t, int64_t, const Patches<T>&, const Panels<T>&, T*, int64_t, bool);            \
  template void tile_product(int64_t, int64_t, const Factor<T>&, const Patches<T>&, T*, int64_t, bool);            \
  template bool fill_bias(int64_t, int64_t, const T*, T*, int64_t);                                                \
  template void affine_tile(int64_t, int64_t, int64_t, const Factor<T>&, const Factor<T>&, const T*, T*, int64_t); \
  template void gemm(int64_t, int64_t, int64_t, const Factor<T>&, const Factor<T>&, T*, bool, T*);                 \
  template void add_parts(const T*, int64_t, int64_t, T*, bool);
PARABOLA_GEMM(float)
PARABOLA_GEMM(double)

}  // namespace parabola
