// Tiles of rows, with which both passes of mlp go through both layers.
#pragma once
#include "engine/blas/gemm.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/mlp_kernels.h"
#include "engine/ops/normal_distribution.h"

namespace parabola::mlp_kernels {

constexpr int64_t most_rows = 256;  // of a tile

// Tiles of rows, of which the hidden values, 256 KiB of floats where H is at most 1365, and their gradients stay in the
// second level of cache. A tile's size decides no bits, so it may follow the number of threads.
inline Tiles tiles_of(const Sizes& n, int64_t rows) {
  int64_t size = std::clamp<int64_t>((int64_t{1} << 16) / std::max<int64_t>(1, n.H), 48, most_rows);
  while (size > 16 && rows < 4 * thread_pool().threads() * size) size /= 2;
  return {rows, size};
}

// C [rows, columns] = or += A B, A's rows contiguous.
template <class T>
void tile(int64_t rows, int64_t columns, int64_t depth, const T* a, const Panels<T>& b, T* c, const T* bias,
          bool accumulate = false) {
  int64_t starts[most_rows];
  for (int64_t i = 0; i < rows; ++i) starts[i] = i * depth;
  tile_product(rows, columns, Patches<T>{a, starts, {1, 1}, {0, 0}, depth}, b, c, columns, accumulate, bias);
}

// From u, the hidden values before gelu: h = gelu(u), where wanted, and in place of h's gradient u's, where there is
// one. h may be u itself. Backward's u comes from main memory, too late if it is not asked for early.
template <class T>
void through_gelu(int64_t count, const T* u, T* h, T* gradient) {
  constexpr int64_t piece = 256 / sizeof(T), line = 64 / sizeof(T), ahead = 8192 / sizeof(T);
  const auto each = [&](const auto& at) __attribute__((always_inline)) {
    int64_t i = 0;
    for (; i + piece <= count; i += piece) {
      if (gradient)
        for (int64_t j = 0; j < piece; j += line) __builtin_prefetch(u + i + ahead + j);
      PARABOLA_INDEPENDENT
      for (int64_t j = i; j < i + piece; ++j) at(j);
    }
    for (; i < count; ++i) at(i);
  };
  if (gradient && h) {
    each([=](int64_t i) {
      const GeluAt<T> gelu(u[i]);
      gradient[i] = gradient[i] * gelu.slope;
      h[i] = gelu.value;
    });
  } else if (gradient) {
    each([=](int64_t i) { gradient[i] = gradient[i] * GeluAt<T>(u[i]).slope; });
  } else {
    each([=](int64_t i) { h[i] = GeluAt<T>(u[i]).value; });
  }
}

}  // namespace parabola::mlp_kernels
