#include "engine/blas/gemm.h"

#include <algorithm>

#include "engine/blas/vector.h"
#include "engine/core/thread_pool.h"

namespace parabola {
namespace {

// What a packed panel of B takes at most: deeper products are done in pieces of this depth, the sums going on from C.
constexpr int64_t max_depth = 512;

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

// C [rows, vectors * lanes] = or += A B over k. Element (i, p) of A lies at a[i * row + p * step], rows of B and C are
// `b_stride` and `c_stride` apart. Each element is one chain of fused multiply-adds in the order of p.
template <int rows, int vectors, class T>
void kernel(int64_t k, const T* a, int64_t row, int64_t step, const T* b, int64_t b_stride, T* c, int64_t c_stride,
            bool accumulate) {
  constexpr int64_t lanes = vector_lanes<T>;
  Vector<T> sum[rows][vectors];
  for (int i = 0; i < rows; ++i)
    for (int v = 0; v < vectors; ++v) sum[i][v] = accumulate ? load_vector(c + i * c_stride + v * lanes) : Vector<T>{};
  for (int64_t p = 0; p < k; ++p) {
    Vector<T> of_b[vectors];
    for (int v = 0; v < vectors; ++v) of_b[v] = load_vector(b + p * b_stride + v * lanes);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const Vector<T> of_a = broadcast(a[i * row + p * step]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[i][v] = multiply_add<T>(of_a, of_b[v], sum[i][v]);
    }
  }
  for (int i = 0; i < rows; ++i)
    for (int v = 0; v < vectors; ++v) store_vector(c + i * c_stride + v * lanes, sum[i][v]);
}

// All rows of one panel of C, the last ones in smaller steps.
template <int vectors, class T>
void panel(int64_t m, int64_t k, const T* a, int64_t row, int64_t step, const T* b, int64_t b_stride, T* c,
           int64_t c_stride, bool accumulate) {
  int64_t i = 0;
  const auto run = [&]<int rows>() {
    for (; i + rows <= m; i += rows)
      kernel<rows, vectors, T>(k, a + i * row, row, step, b, b_stride, c + i * c_stride, c_stride, accumulate);
  };
  run.template operator()<kernel_rows>();
  run.template operator()<4>();
  run.template operator()<2>();
  run.template operator()<1>();
}

// Columns [0, width) of op(B), rows [0, k), as a panel with rows of `padded` elements, zeros beyond the width.
template <class T>
void pack(const Factor<T>& b, int64_t k, int64_t width, int64_t padded, T* packed) {
  for (int64_t j = 0; j < padded; ++j)
    for (int64_t p = 0; p < k; ++p) packed[p * padded + j] = j < width ? *b.at(p, j).data : T(0);
}

}  // namespace

template <class T>
void tile_product(int64_t m, int64_t n, int64_t k, const Factor<T>& a, const Factor<T>& b, T* c, int64_t stride,
                  bool accumulate) {
  constexpr int64_t lanes = vector_lanes<T>, widest = kernel_vectors * lanes;
  alignas(64) T packed[max_depth * widest], edge[kernel_rows * lanes];
  const int64_t row = a.transposed ? 1 : a.stride, step = a.transposed ? a.stride : 1;
  for (int64_t k0 = 0; k0 == 0 || k0 < k; k0 += max_depth) {
    const int64_t depth = std::min(max_depth, k - k0);
    const bool add = accumulate || k0 > 0;
    const T* from_a = a.at(0, k0).data;
    for (int64_t j = 0; j < n;) {
      const int64_t left = n - j, vectors = std::min<int64_t>(kernel_vectors, std::max<int64_t>(1, left / lanes));
      const int64_t width = std::min(left, vectors * lanes);
      Factor<T> of_b = b.at(k0, j);
      if (b.transposed || width < lanes) {
        pack(of_b, depth, width, vectors * lanes, packed);
        of_b = {packed, vectors * lanes};
      }
      if (width < lanes) {
        // Fewer columns than a vector has: the kernel writes whole vectors, so it works on a copy.
        for (int64_t i = 0; i < m; i += kernel_rows) {
          const int64_t rows = std::min<int64_t>(kernel_rows, m - i);
          for (int64_t r = 0; add && r < rows; ++r) std::copy_n(c + (i + r) * stride + j, width, edge + r * lanes);
          panel<1, T>(rows, depth, from_a + i * row, row, step, of_b.data, of_b.stride, edge, lanes, add);
          for (int64_t r = 0; r < rows; ++r) std::copy_n(edge + r * lanes, width, c + (i + r) * stride + j);
        }
      } else if (vectors == 1) {
        panel<1, T>(m, depth, from_a, row, step, of_b.data, of_b.stride, c + j, stride, add);
      } else if (vectors == 2) {
        panel<2, T>(m, depth, from_a, row, step, of_b.data, of_b.stride, c + j, stride, add);
      } else {
        panel<kernel_vectors, T>(m, depth, from_a, row, step, of_b.data, of_b.stride, c + j, stride, add);
      }
      j += width;
    }
  }
}

template <class T>
void affine_tile(int64_t m, int64_t n, int64_t k, const Factor<T>& a, const Factor<T>& b, const T* bias, T* y,
                 int64_t stride) {
  for (int64_t i = 0; bias && i < m; ++i) std::copy_n(bias, n, y + i * stride);
  tile_product(m, n, k, a, b, y, stride, bias != nullptr);
}

Tiles row_tiles(int64_t m) { return even_tiles(m, m < 1024 ? 64 : 256, 8); }
Tiles column_tiles(int64_t n) { return even_tiles(n, 192, 48); }

namespace {

// Parts of the inner axis, so that there are some 32 tasks; none shorter than 256.
int64_t most_parts(int64_t m, int64_t n, int64_t k) {
  const int64_t tiles = std::max<int64_t>(1, row_tiles(m).number() * column_tiles(n).number());
  return std::clamp<int64_t>(k / 256, 1, std::max<int64_t>(1, 32 / tiles));
}

Tiles inner_parts(int64_t m, int64_t n, int64_t k) {
  const int64_t parts = most_parts(m, n, k);
  return {k, std::max<int64_t>(1, (k + parts - 1) / parts)};
}

}  // namespace

int64_t gemm_workspace(int64_t m, int64_t n, int64_t k) {
  const int64_t parts = most_parts(m, n, k);
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
  const Tiles rows = row_tiles(m), columns = column_tiles(n), inner = inner_parts(m, n, k);
  const int64_t parts = std::max<int64_t>(1, inner.number());
  thread_pool().run(parts * rows.number() * columns.number(), [&](int64_t task, int) {
    const int64_t part = task % parts, row = task / parts / columns.number(), column = task / parts % columns.number();
    const int64_t i = rows.begin(row), j = columns.begin(column), k0 = parts == 1 ? 0 : inner.begin(part);
    T* out = parts == 1 ? c : workspace + part * m * n;
    tile_product(rows.length(row), columns.length(column), parts == 1 ? k : inner.length(part), a.at(i, k0),
                 b.at(k0, j), out + i * n + j, n, parts == 1 && accumulate);
  });
  if (parts > 1) add_parts(workspace, parts, m * n, c, accumulate);
}

template void tile_product(int64_t, int64_t, int64_t, const Factor<float>&, const Factor<float>&, float*, int64_t,
                           bool);
template void tile_product(int64_t, int64_t, int64_t, const Factor<double>&, const Factor<double>&, double*, int64_t,
                           bool);
template void affine_tile(int64_t, int64_t, int64_t, const Factor<float>&, const Factor<float>&, const float*, float*,
                          int64_t);
template void affine_tile(int64_t, int64_t, int64_t, const Factor<double>&, const Factor<double>&, const double*,
                          double*, int64_t);
template void gemm(int64_t, int64_t, int64_t, const Factor<float>&, const Factor<float>&, float*, bool, float*);
template void gemm(int64_t, int64_t, int64_t, const Factor<double>&, const Factor<double>&, double*, bool, double*);
template void add_parts(const float*, int64_t, int64_t, float*, bool);
template void add_parts(const double*, int64_t, int64_t, double*, bool);

}  // namespace parabola
