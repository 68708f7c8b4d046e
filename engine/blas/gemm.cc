#include "engine/blas/gemm.h"

#include <algorithm>

#include "engine/blas/kernel.h"
#include "engine/blas/packing.h"
#include "engine/core/thread_pool.h"

namespace parabola {
namespace {

using namespace gemm_kernel;

// Pieces of at most `limit`, all alike but the last: whole multiples of the kernel's step, where there is more than
// one.
Tiles even_tiles(int64_t count, int64_t limit, int64_t step) {
  const int64_t pieces = std::max<int64_t>(1, (count + limit - 1) / limit);
  const int64_t size = (count + pieces - 1) / pieces;
  return {count, pieces == 1 ? std::max<int64_t>(1, count) : std::min(limit, (size + step - 1) / step * step)};
}

// C [m, n] strip by strip, each of kernel_rows rows, the last ones of fewer: of a strip's rows all n columns at once,
// so that its part of A stays in the first level of cache, B's panels pass through it, and C is written row by row.
// panel_of_b(j) has the rows of B's panel from column j on.
template <class T, class RowOfA, class PanelOfB>
void strips(int64_t m, int64_t n, const Inner& inner, const RowOfA& row_of_a, const PanelOfB& panel_of_b, T* c,
            int64_t c_stride, const Start<T>& start) {
  const auto all = [&]<bool by_columns>() {
    int64_t i = 0;
    const auto run = [&]<int rows, int vectors>() {
      for (; i + rows <= m; i += rows) {
        const T* a[rows];
        for (int r = 0; r < rows; ++r) a[r] = row_of_a(i + r);
        for (int64_t j = 0; j < n; j += panel_columns<T>)
          panel<rows, vectors, by_columns, T>(std::min(panel_columns<T>, n - j), inner, a, panel_of_b(j),
                                              c + i * c_stride + j, c_stride, start.at(i, j));
      }
    };
    // Narrow rows leave registers for more of them, and few sums would wait for each other.
    if (n <= (kernel_vectors - 1) * vector_lanes<T> && (!by_columns || inner.side_by_side >= narrow_rows))
      run.template operator()<narrow_rows, kernel_vectors - 1>();
    run.template operator()<kernel_rows, kernel_vectors>();
    run.template operator()<4, kernel_vectors>();
    run.template operator()<2, kernel_vectors>();
    run.template operator()<1, kernel_vectors>();
  };
  if (inner.step == 1)
    all.template operator()<false>();
  else
    all.template operator()<true>();
}

// C [m, one vector] = A B for an inner axis so short that B stays in registers while all rows of A pass: the products
// of few channels, of which the other kernel's beginning and end would be half the time.
constexpr int64_t short_depth = 16;
template <class T>
[[gnu::noinline]] void short_kernel(int64_t m, const T* a, const int64_t* a_rows, const EvenRowsOfB<T>& row_of_b, T* c,
                                    int64_t c_stride) {
  Vector<T> of_b[short_depth];
#pragma GCC unroll 16
  for (int p = 0; p < short_depth; ++p) of_b[p] = load_vector(row_of_b(p));
  const auto multiply = [&]<int count>(int64_t i) __attribute__((always_inline)) {
    const T* from[count];
    Vector<T> sum[count];
#pragma GCC unroll 8
    for (int r = 0; r < count; ++r) from[r] = a + a_rows[i + r], sum[r] = Vector<T>{};
#pragma GCC unroll 16
    for (int p = 0; p < short_depth; ++p)
#pragma GCC unroll 8
      for (int r = 0; r < count; ++r) sum[r] = multiply_add<T>(broadcast(from[r][p]), of_b[p], sum[r]);
#pragma GCC unroll 8
    for (int r = 0; r < count; ++r) store_vector(c + (i + r) * c_stride, sum[r]);
  };
  int64_t i = 0;
  for (; i + narrow_rows <= m; i += narrow_rows) multiply.template operator()<narrow_rows>(i);
  for (; i < m; ++i) multiply.template operator()<1>(i);
}

// C [m, n] for few rows and a transposed B, of which a copy would cost more than the products: its squares are
// transposed in registers, and multiplied there and then. m is at most `rows`.
template <int rows, class T>
[[gnu::noinline]] void transposing_kernel(int64_t m, int64_t n, int64_t k, const Factor<T>& a, const Factor<T>& b, T* c,
                                          int64_t stride, const Start<T>& start) {
  constexpr int64_t lanes = vector_lanes<T>;
  const T* from[rows];
  for (int r = 0; r < rows; ++r) from[r] = a.data + std::min<int64_t>(r, m - 1) * a.stride;
  for (int64_t j = 0; j < n; j += lanes) {
    const int64_t width = std::min(lanes, n - j), whole = k / lanes * lanes;
    alignas(64) T edge[rows][lanes] = {};
    for (int64_t r = 0; r < m; ++r) std::copy_n(start.at(r, j).data, width, edge[r]);
    Vector<T> sum[rows], square[lanes];
    for (int r = 0; r < rows; ++r) sum[r] = load_vector(edge[r]);
    const auto multiply = [&](int64_t p) __attribute__((always_inline)) {
      transpose<T>(square);
#pragma GCC unroll 16
      for (int q = 0; q < lanes; ++q)
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) sum[r] = multiply_add<T>(broadcast(from[r][p + q]), square[q], sum[r]);
    };
    for (int64_t p = 0; p < whole; p += lanes) {
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i)
        square[i] = load_vector(b.data + (j + std::min<int64_t>(i, width - 1)) * b.stride + p);
      multiply(p);
    }
    for (int64_t p = whole; p < k; ++p) {
      alignas(64) T column[lanes];
      for (int64_t i = 0; i < lanes; ++i) column[i] = b.data[(j + std::min<int64_t>(i, width - 1)) * b.stride + p];
      for (int r = 0; r < rows; ++r) sum[r] = multiply_add<T>(broadcast(from[r][p]), load_vector(column), sum[r]);
    }
    for (int r = 0; r < rows; ++r) store_vector(edge[r], sum[r]);
    for (int64_t r = 0; r < m; ++r) std::copy_n(edge[r], width, c + r * stride + j);
  }
}

// Whether rows `stride` apart are read where they lie, though many strips or panels read them: where a panel's row is
// as long as four lines, the second level of cache brings it while the row before is multiplied, and a copy costs more
// than it saves. Rows longer than these would lie in few of its sets.
template <class T>
bool lies_close(int64_t stride) {
  return panel_columns<T> * int64_t{sizeof(T)} >= 256 && stride <= 16 * panel_columns<T>;
}

// A's rows and the runs of its inner axis, packed where enough panels read them: rows far apart, often by a power of 2,
// do not stay in the first level of cache together, and come to it late.
template <class T>
struct EvenRows {
  Factor<T> a;
  int64_t m;
  bool packs;

  EvenRows(const Factor<T>& a, int64_t m, int64_t n)
      : a(a),
        m(m),
        packs(m > 2 * kernel_rows &&
              (a.transposed ? n > panel_columns<T> && !lies_close<T>(a.stride) : n > 4 * panel_columns<T>)) {}

  template <class RunBlock>
  void each_block(int64_t begin, int64_t depth, const RunBlock& run) const {
    if (!packs) {
      const int64_t step = a.transposed ? a.stride : 1;
      const Run whole{begin * step, depth};
      return run(0, m, Inner{&whole, 1, step, m}, [&](int64_t i) { return a.at(i, 0).data; });
    }
    alignas(64) T packed[packed_rows / kernel_rows * strip_distance<T>];
    const Run whole{0, depth};
    for (int64_t first = 0; first < m; first += packed_rows) {
      const int64_t rows = std::min(packed_rows, m - first);
      pack_strips(a.at(first, begin), rows, depth, packed);
      run(first, rows, Inner{&whole, 1, kernel_rows, kernel_rows},
          [&](int64_t i) { return packed + i / kernel_rows * strip_distance<T> + i % kernel_rows; });
    }
  }
};
template <class T>
struct PatchRows {
  Patches<T> a;
  int64_t m;

  template <class RunBlock>
  void each_block(int64_t begin, int64_t depth, const RunBlock& run) const {
    Run runs[max_depth<T>];
    int64_t number = 0;
    for (int64_t p = begin, length; p < begin + depth; p += length) {
      const int64_t tap = p / a.width, within = p % a.width;
      length = std::min(a.width - within, begin + depth - p);
      runs[number++] = {tap / a.taps[1] * a.jumps[0] + tap % a.taps[1] * a.jumps[1] + within, length};
    }
    run(0, m, Inner{runs, number, 1, 1}, [&](int64_t i) { return a.data + a.rows[i]; });
  }
};

template <class T>
Start<T> start_of(const T* c, int64_t stride, bool accumulate, const T* bias) {
  return accumulate ? Start<T>{c, stride, 1} : bias ? Start<T>{bias, 0, 1} : Start<T>{zeros<T>, 0, 0};
}

// Calls run(begin, depth, where the sums begin) for every block of the inner axis.
template <class T, class RunBlock>
void each_depth(int64_t k, const T* c, int64_t stride, bool accumulate, const T* bias, const RunBlock& run) {
  for (int64_t begin = 0; begin < k; begin += max_depth<T>)
    run(begin, std::min(max_depth<T>, k - begin), start_of(c, stride, accumulate || begin > 0, bias));
}

// C where there is nothing to add up.
template <class T>
bool empty_product(int64_t m, int64_t n, int64_t k, T* c, int64_t stride, bool accumulate, const T* bias = nullptr) {
  for (int64_t i = 0; k == 0 && !accumulate && i < m; ++i)
    for (int64_t j = 0; j < n; ++j) c[i * stride + j] = bias ? bias[j] : T(0);
  return k == 0;
}

}  // namespace

int64_t panel_elements(int64_t n, int64_t k) {
  constexpr int64_t widest = panel_columns<float>;
  return (n + widest - 1) / widest * widest * k;
}

template <class T>
Panels<T> pack_panels(int64_t n, int64_t k, const Factor<T>& b, T* to) {
  constexpr int64_t columns = panel_columns<T>;
  parallel_for(n, columns, [&](int64_t begin, int64_t end) {
    pack_panel_rows(end - begin, k, b.at(0, begin), 0, k, to + begin * k);
  });
  return {to, k};
}

template <class T>
void pack_panel_rows(int64_t n, int64_t k, const Factor<T>& rows, int64_t begin, int64_t count, T* to) {
  constexpr int64_t columns = panel_columns<T>;
  for (int64_t j = 0; j < n; j += columns)
    pack(rows.at(0, j), count, std::min(columns, n - j), to + j * k + begin * panel_stride<T>(n - j));
}

template <class T>
void tile_product(int64_t m, int64_t n, int64_t k, const Factor<T>& a, const Factor<T>& b, T* c, int64_t stride,
                  bool accumulate, const T* bias) {
  if (empty_product(m, n, k, c, stride, accumulate, bias)) return;
  constexpr int64_t columns = panel_columns<T>;
  if (m > 0 && m <= 8 && b.transposed && !a.transposed) {
    const Start<T> start = start_of(c, stride, accumulate, bias);
    const auto run = m <= 1   ? transposing_kernel<1, T>
                     : m <= 2 ? transposing_kernel<2, T>
                     : m <= 4 ? transposing_kernel<4, T>
                              : transposing_kernel<8, T>;
    return run(m, n, k, a, b, c, stride, start);
  }
  // A copy of B costs little beside many rows; few rows read whole vectors of it where they lie, and so do all where it
  // takes but half of the first level of cache.
  const bool close = lies_close<T>(b.stride) || b.stride * std::min(k, max_depth<T>) * int64_t{sizeof(T)} <= 16 << 10;
  const bool copies = b.transposed || (m > 2 * kernel_rows && !close);
  const int64_t in_place = copies ? 0 : n / vector_lanes<T> * vector_lanes<T>;
  const EvenRows<T> rows(a, m, n);
  alignas(64) T packed[group_panels * panel_distance<T>];
  each_depth<T>(k, c, stride, accumulate, bias, [&](int64_t begin, int64_t depth, const Start<T>& start) {
    const auto multiply = [&](int64_t group, int64_t width, const auto& panel_of_b) {
      rows.each_block(begin, depth, [&](int64_t first, int64_t count, const Inner& inner, const auto& row) {
        strips(count, width, inner, row, panel_of_b, c + first * stride + group, stride, start.at(first, group));
      });
    };
    if (in_place > 0) multiply(0, in_place, [&](int64_t j) { return EvenRowsOfB<T>{b.at(begin, j).data, b.stride}; });
    for (int64_t group = in_place; group < n; group += group_panels * columns) {
      const int64_t width = std::min(n - group, group_panels * columns);
      pack(b.at(begin, group), depth, width, packed);
      multiply(group, width, [&](int64_t j) {
        return EvenRowsOfB<T>{packed + j / columns * panel_distance<T>, panel_stride<T>(width - j)};
      });
    }
  });
}

template <class T>
void tile_product(int64_t m, int64_t n, const Patches<T>& a, const Panels<T>& b, T* c, int64_t stride, bool accumulate,
                  const T* bias) {
  if (empty_product(m, n, a.columns(), c, stride, accumulate, bias)) return;
  if (many_registers && a.width == short_depth && a.columns() == short_depth && !accumulate && !bias &&
      n % vector_lanes<T> == 0) {
    for (int64_t j = 0; j < n; j += vector_lanes<T>) {
      const int64_t panel = j / panel_columns<T> * panel_columns<T>;
      short_kernel<T>(m, a.data, a.rows, {b.data + panel * b.k + j - panel, panel_stride<T>(n - panel)}, c + j, stride);
    }
    return;
  }
  const PatchRows<T> rows{a, m};
  each_depth<T>(a.columns(), c, stride, accumulate, bias, [&](int64_t begin, int64_t depth, const Start<T>& start) {
    rows.each_block(begin, depth, [&](int64_t, int64_t, const Inner& inner, const auto& row) {
      // By groups of columns: strips that all went through a wide B would bring it from the last level each time.
      for (int64_t group = 0; group < n; group += group_panels * panel_columns<T>)
        strips(
            m, std::min(group_panels * panel_columns<T>, n - group), inner, row,
            [&](int64_t j) {
              const int64_t columns = panel_stride<T>(n - group - j);
              return EvenRowsOfB<T>{b.data + (group + j) * b.k + begin * columns, columns};
            },
            c + group, stride, start.at(0, group));
    });
  });
}

template <class T>
void tile_product(int64_t m, int64_t k, const Factor<T>& a, const Patches<T>& b, T* c, int64_t stride,
                  bool accumulate) {
  if (empty_product(m, b.columns(), k, c, stride, accumulate)) return;
  const EvenRows<T> rows(a, m, b.columns());
  each_depth<T>(k, c, stride, accumulate, nullptr, [&](int64_t begin, int64_t depth, const Start<T>& start) {
    rows.each_block(begin, depth, [&](int64_t first, int64_t count, const Inner& inner, const auto& row) {
      for (int64_t run = 0; run < b.taps[0] * b.taps[1]; ++run) {
        const T* from = b.data + run / b.taps[1] * b.jumps[0] + run % b.taps[1] * b.jumps[1];
        for (int64_t j = 0; j < b.width; j += panel_columns<T>)
          strips(
              count, std::min(panel_columns<T>, b.width - j), inner, row,
              [&](int64_t) {
                return PatchRowsOfB<T>{from + j, b.rows + begin};
              },
              c + first * stride + run * b.width + j, stride, start.at(first, run * b.width + j));
      }
    });
  });
}

Tiles row_tiles(int64_t m) { return even_tiles(m, m < 1024 ? 64 : 256, 8); }
Tiles column_tiles(int64_t n) { return even_tiles(n, 256, 64); }

ProductTiles fixed_tiles(int64_t m, int64_t n) {
  if (m > 1024) return {row_tiles(m), column_tiles(n)};
  return {n > 64 ? even_tiles(m, 256, 24) : row_tiles(m), even_tiles(n, 64, 64)};
}

namespace {

// At least so many tiles, where C is large enough.
ProductTiles at_least(int64_t number, int64_t m, int64_t n, bool columns_first) {
  ProductTiles tiles{even_tiles(m, m < 4096 ? 256 : 1024, 24),
                     m < 4096 ? column_tiles(n) : Tiles{n, std::max<int64_t>(1, n)}};
  for (int64_t columns = 128; columns_first && columns >= 64 && tiles.number() < number; columns /= 2)
    tiles.columns = even_tiles(n, columns, 64);
  for (int64_t rows = 128; rows >= 64 && tiles.number() < number; rows /= 2) tiles.rows = even_tiles(m, rows, 8);
  return tiles;
}

}  // namespace

ProductTiles product_tiles(int64_t m, int64_t n, bool columns_first) {
  return at_least(4 * thread_pool().threads(), m, n, columns_first);
}

namespace {

// How gemm cuts its work. A long inner axis is cut itself, so rows of C need not be cut short for the sake of many
// tasks, and what is read lies side by side. Where it is cut decides bits, so the threads' number has no part in that.
struct Cut {
  ProductTiles tiles;
  Tiles inner;
  int64_t parts;  // of the inner axis, so that there are some 32 tasks; none shorter than 256
  Cut(int64_t m, int64_t n, int64_t k, bool transposed = false)
      : tiles(k < 4096 ? at_least(24, m, n, false) : ProductTiles{even_tiles(m, 256, 24), column_tiles(n)}) {
    const int64_t number = std::max<int64_t>(1, tiles.number());
    const int64_t most = std::clamp<int64_t>(k / 256, 1, std::max<int64_t>(1, 32 / number));
    inner = {k, std::max<int64_t>(1, (k + most - 1) / most)};
    parts = std::max<int64_t>(1, inner.number());
    if (parts == 1) tiles = product_tiles(m, n, !transposed);
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
  const Cut cut(m, n, k, a.transposed);
  const int64_t parts = cut.parts, tiles = cut.tiles.number();
  // Parts one after the other: a thread's share are neighbouring rows of both factors, often ones that it has written.
  thread_pool().run(parts * tiles, [&](int64_t task, int) {
    const auto [i, j, height, width] = cut.tiles.at(task % tiles);
    const int64_t part = task / tiles, k0 = parts == 1 ? 0 : cut.inner.begin(part);
    T* out = parts == 1 ? c : workspace + part * m * n;
    tile_product(height, width, parts == 1 ? k : cut.inner.length(part), a.at(i, k0), b.at(k0, j), out + i * n + j, n,
                 parts == 1 && accumulate);
  });
  if (parts > 1) add_parts(workspace, parts, m * n, c, accumulate);
}

#define PARABOLA_GEMM(T)                                                                                          \
  template Panels<T> pack_panels(int64_t, int64_t, const Factor<T>&, T*);                                         \
  template void pack_panel_rows(int64_t, int64_t, const Factor<T>&, int64_t, int64_t, T*);                        \
  template void tile_product(int64_t, int64_t, int64_t, const Factor<T>&, const Factor<T>&, T*, int64_t, bool,    \
                             const T*);                                                                           \
  template void tile_product(int64_t, int64_t, const Patches<T>&, const Panels<T>&, T*, int64_t, bool, const T*); \
  template void tile_product(int64_t, int64_t, const Factor<T>&, const Patches<T>&, T*, int64_t, bool);           \
  template void gemm(int64_t, int64_t, int64_t, const Factor<T>&, const Factor<T>&, T*, bool, T*);                \
  template void add_parts(const T*, int64_t, int64_t, T*, bool);
PARABOLA_GEMM(float)
PARABOLA_GEMM(double)

}  // namespace parabola
