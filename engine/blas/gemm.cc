#include "engine/blas/gemm.h"

// Our own pool cuts the work; Eigen's threads and its packing on the heap stay out of it. A product of at most
// max_rows x max_columns x max_depth packs 147 and 221 KB, whichever the type.
#ifndef EIGEN_DONT_PARALLELIZE
#define EIGEN_DONT_PARALLELIZE
#endif
#define EIGEN_STACK_ALLOCATION_LIMIT (256 << 10)
// Eigen would compute very small products coefficient by coefficient, with vectors that start at aligned addresses:
// then the bits would depend on where C lies.
#define EIGEN_GEMM_TO_COEFFBASED_THRESHOLD 0
// g++ 12 takes the undefined operands inside its own AVX-512 intrinsics for mistakes (GCC bug 105593).
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <Eigen/Core>
#include <algorithm>

#include "engine/core/thread_pool.h"

namespace parabola {
namespace {

constexpr int64_t max_rows = 128, max_columns = 192;
template <class T>
constexpr int64_t max_depth = 288 * 4 / static_cast<int64_t>(sizeof(T));

// Pieces of at most `limit`, all alike but the last: whole multiples of the kernel's step, where there is more than
// one.
Tiles even_tiles(int64_t count, int64_t limit, int64_t step) {
  const int64_t pieces = std::max<int64_t>(1, (count + limit - 1) / limit);
  const int64_t size = (count + pieces - 1) / pieces;
  return {count, pieces == 1 ? std::max<int64_t>(1, count) : std::min(limit, (size + step - 1) / step * step)};
}

// Block sizes that do not depend on the machine: Eigen would ask the processor for its caches. 32 KiB of L1 leave the
// depth of a block uncut.
void fix_cache_sizes() {
  static const bool done = (Eigen::setCpuCacheSizes(32 << 10, 1 << 20, 4 << 20), true);
  static_cast<void>(done);
}

template <class T, int order>
using Map = Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, order>, 0, Eigen::OuterStride<>>;

template <class T, int order_a, int order_b>
void block_product(int64_t m, int64_t n, int64_t k, const Factor<T>& a, const Factor<T>& b, T* c, int64_t stride,
                   bool accumulate) {
  const Map<T, order_a> left(a.data, m, k, Eigen::OuterStride<>(a.stride));
  const Map<T, order_b> right(b.data, k, n, Eigen::OuterStride<>(b.stride));
  Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0, Eigen::OuterStride<>> result(
      c, m, n, Eigen::OuterStride<>(stride));
  if (accumulate)
    result.noalias() += left * right;
  else
    result.noalias() = left * right;
}

}  // namespace

template <class T>
void tile_product(int64_t m, int64_t n, int64_t k, const Factor<T>& a, const Factor<T>& b, T* c, int64_t stride,
                  bool accumulate) {
  fix_cache_sizes();
  constexpr int row = Eigen::RowMajor, column = Eigen::ColMajor;
  const auto product = a.transposed ? (b.transposed ? block_product<T, column, column> : block_product<T, column, row>)
                                    : (b.transposed ? block_product<T, row, column> : block_product<T, row, row>);
  // The steps of Eigen's kernel with AVX-512: 4 rows by 48 columns (of the row-major C), depth by 8.
  const Tiles rows = even_tiles(m, max_rows, 4), columns = even_tiles(n, max_columns, 48),
              depth = even_tiles(k, max_depth<T>, 8);
  for (int64_t k0 = 0; k0 == 0 || k0 < k; k0 += depth.size)
    for (int64_t j = 0; j < n; j += columns.size)
      for (int64_t i = 0; i < m; i += rows.size)
        product(std::min(rows.size, m - i), std::min(columns.size, n - j), std::min(depth.size, k - k0), a.at(i, k0),
                b.at(k0, j), c + i * stride + j, stride, accumulate || k0 > 0);
}

template <class T>
void affine_tile(int64_t m, int64_t n, int64_t k, const Factor<T>& a, const Factor<T>& b, const T* bias, T* y,
                 int64_t stride) {
  for (int64_t i = 0; bias && i < m; ++i) std::copy_n(bias, n, y + i * stride);
  tile_product(m, n, k, a, b, y, stride, bias != nullptr);
}

Tiles row_tiles(int64_t m) { return even_tiles(m, m < 8 * max_rows ? max_rows / 2 : max_rows, 4); }
Tiles column_tiles(int64_t n) { return even_tiles(n, max_columns, 48); }

namespace {

// Parts of the inner axis, so that there are some 32 tasks; none shorter than 256.
Tiles inner_parts(int64_t m, int64_t n, int64_t k) {
  const int64_t tiles = std::max<int64_t>(1, row_tiles(m).number() * column_tiles(n).number());
  const int64_t parts = std::clamp<int64_t>(k / 256, 1, std::max<int64_t>(1, 32 / tiles));
  return {k, std::max<int64_t>(1, (k + parts - 1) / parts)};
}

}  // namespace

int64_t gemm_workspace(int64_t m, int64_t n, int64_t k) {
  const int64_t parts = inner_parts(m, n, k).number();
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
