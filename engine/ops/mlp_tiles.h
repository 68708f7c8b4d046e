// Tiles of rows, with which both passes of mlp go through both layers.
#pragma once
#include "engine/blas/gemm.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/gelu_at.h"
#include "engine/ops/mlp_kernels.h"

namespace parabola::mlp_kernels {

constexpr int64_t most_rows = 256;  // of a tile

// Tiles of rows, of which the hidden values, 256 KiB of floats where H is at most 1365, and their gradients stay in the
// second level of cache. A tile's size decides no bits, so it may follow the number of threads.
inline Tiles tiles_of(const Sizes& n, int64_t rows) {
  int64_t size = std::clamp<int64_t>((int64_t{1} << 16) / std::max<int64_t>(1, n.H), 48, most_rows);
  while (size > 16 && rows < 4 * thread_pool().threads() * size) size /= 2;
  return {rows, size};
}

// Rows of a matrix, `stride` elements apart.
template <class T>
struct Rows {
  T* data;
  int64_t stride;
};

// C [rows, columns] = or += A B.
template <class T>
void tile(int64_t rows, int64_t columns, int64_t depth, Rows<const T> a, const Panels<T>& b, Rows<T> c, const T* bias,
          bool accumulate = false) {
  int64_t starts[most_rows];
  for (int64_t i = 0; i < rows; ++i) starts[i] = i * a.stride;
  tile_product(rows, columns, Patches<T>{a.data, starts, {1, 1}, {0, 0}, depth}, b, c.data, c.stride, accumulate, bias);
}

// From u, the hidden values before gelu: h = gelu(u), where wanted, and in place of h's gradient u's, where there is
// one. h may be u itself.
template <class T>
void through_gelu(int64_t count, const T* u, T* h, T* gradient) {
  if (gradient && h) {
    each_gelu(count, u, [=](auto where, const auto& gelu) {
      where.store(gradient, where.load(gradient) * gelu.slope);
      where.store(h, gelu.value);
    });
  } else if (gradient) {
    each_gelu(count, u,
              [=](auto where, const auto& gelu) { where.store(gradient, where.load(gradient) * gelu.slope); });
  } else {
    each_gelu(count, u, [=](auto where, const auto& gelu) { where.store(h, gelu.value); });
  }
}

}  // namespace parabola::mlp_kernels
