// The elementwise heart of the quadratic ops: q = sum_j a_j∘b_j on a tile that is still in cache, its way into y, and
// the gradients. A function K(q) of the term (PAPER 6.3) would go into add_scaled and factor_gradients, nowhere else.
#pragma once
#include <cmath>
#include <cstdint>

#include "engine/ops/elementwise.h"
#include "engine/ops/lanes.h"

namespace parabola {

// A tile of a_j and b_j: element (row, j, c) of either lies at row * row_stride + j * rank_stride + c. Where both are
// one factor (type 3), so are the pointers.
template <class T>
struct FactorTile {
  T *a, *b;
  int64_t ranks, row_stride, rank_stride;
};

// y += scale * q, rows `stride` elements apart. y, the linear term, is complete before, so that it compares equal to
// itself where the product is zero.
template <class T>
void add_scaled(int64_t rows, int64_t width, T scale, const T* q, int64_t q_stride, T* y, int64_t stride) {
  for (int64_t row = 0; row < rows; ++row, q += q_stride, y += stride) {
    PARABOLA_INDEPENDENT
    for (int64_t c = 0; c < width; ++c) y[c] = std::fma(scale, q[c], y[c]);
  }
}

// y += scale * sum_j a_j∘b_j for rows of `width` values. `q` is scratch of one row.
template <class T>
void add_quadratic_term(int64_t rows, int64_t width, const FactorTile<T>& f, T scale, T* y, int64_t stride, T* q) {
  for (int64_t row = 0; row < rows; ++row, y += stride) {
    const T *a = f.a + row * f.row_stride, *b = f.b + row * f.row_stride;
    PARABOLA_INDEPENDENT
    for (int64_t c = 0; c < width; ++c) q[c] = a[c] * b[c];
    for (int64_t j = 1; j < f.ranks; ++j) {
      a += f.rank_stride, b += f.rank_stride;
      PARABOLA_INDEPENDENT
      for (int64_t c = 0; c < width; ++c) q[c] = std::fma(a[c], b[c], q[c]);
    }
    add_scaled<T>(1, width, scale, q, width, y, stride);
  }
}

// From g = dy: da_j = scale g∘b_j and db_j = scale g∘a_j, written to `gradients`, which may be `f` itself. Null
// pointers in `gradients` are skipped; then the other factor is not read.
template <class T>
void factor_gradients(int64_t rows, int64_t width, const FactorTile<T>& f, T scale, const T* g, int64_t stride,
                      const FactorTile<T>& gradients) {
  for (int64_t row = 0; row < rows; ++row, g += stride) {
    for (int64_t j = 0; j < f.ranks; ++j) {
      const int64_t from = row * f.row_stride + j * f.rank_stride;
      const int64_t to = row * gradients.row_stride + j * gradients.rank_stride;
      T *da = gradients.a ? gradients.a + to : nullptr, *db = gradients.b ? gradients.b + to : nullptr;
      const T *a = db ? f.a + from : nullptr, *b = da ? f.b + from : nullptr;
      if (da && db) {
        PARABOLA_INDEPENDENT
        for (int64_t c = 0; c < width; ++c) {
          const T scaled = scale * g[c], old_a = a[c], old_b = b[c];
          da[c] = scaled * old_b;
          db[c] = scaled * old_a;
        }
      } else if (da) {
        PARABOLA_INDEPENDENT
        for (int64_t c = 0; c < width; ++c) da[c] = scale * g[c] * b[c];
      } else if (db) {
        PARABOLA_INDEPENDENT
        for (int64_t c = 0; c < width; ++c) db[c] = scale * g[c] * a[c];
      }
    }
  }
}

// Rows of x, `stride` elements apart: what stands for the a_j x of type 1, the form xᵀ W x.
template <class T>
struct FormRows {
  T* x;
  int64_t stride;
};

// y += scale * sum_j x_j b_j. `q` is scratch of one row.
template <class T>
void add_form(int64_t rows, int64_t width, const FormRows<const T>& x, const FactorTile<T>& f, T scale, T* y,
              int64_t stride, T* q) {
  for (int64_t row = 0; row < rows; ++row, y += stride) {
    const T *x_row = x.x + row * x.stride, *b = f.b + row * f.row_stride;
    PARABOLA_INDEPENDENT
    for (int64_t c = 0; c < width; ++c) q[c] = x_row[0] * b[c];
    for (int64_t j = 1; j < f.ranks; ++j) {
      b += f.rank_stride;
      PARABOLA_INDEPENDENT
      for (int64_t c = 0; c < width; ++c) q[c] = std::fma(x_row[j], b[c], q[c]);
    }
    add_scaled<T>(1, width, scale, q, width, y, stride);
  }
}

// From g = dy: dx_j = or += scale g·b_j, which is x's part as the left factor, and db_j = scale x_j g, written to
// `gradients`, which may be `f` itself. Null pointers are skipped; then b, or x, is not read.
template <class T>
void form_gradients(int64_t rows, int64_t width, const FormRows<const T>& x, const FactorTile<T>& f, T scale,
                    const T* g, int64_t stride, const FormRows<T>& dx, bool accumulate,
                    const FactorTile<T>& gradients) {
  for (int64_t row = 0; row < rows; ++row, g += stride) {
    for (int64_t j = 0; j < f.ranks; ++j) {
      if (dx.x) {
        const T* b = f.b + row * f.row_stride + j * f.rank_stride;
        const T d = scale * lane_sum<T>(width, [&](int64_t c) { return g[c] * b[c]; });
        T& out = dx.x[row * dx.stride + j];
        out = accumulate ? out + d : d;
      }
      if (gradients.b) {
        T* db = gradients.b + row * gradients.row_stride + j * gradients.rank_stride;
        const T scaled = scale * x.x[row * x.stride + j];
        PARABOLA_INDEPENDENT
        for (int64_t c = 0; c < width; ++c) db[c] = scaled * g[c];
      }
    }
  }
}

// z = scale * x∘x: what the square weight is multiplied with, in place of x. `z` may be x itself.
template <class T>
void scaled_squares(int64_t count, T scale, const T* x, T* z) {
  PARABOLA_INDEPENDENT
  for (int64_t i = 0; i < count; ++i) z[i] = scale * x[i] * x[i];
}

// dx = or += 2 scale x∘dz, from z's gradient.
template <class T>
void add_square_gradient(int64_t count, T scale, const T* x, const T* dz, T* dx, bool accumulate) {
  for (int64_t i = 0; i < count; ++i) {
    const T d = 2 * scale * x[i] * dz[i];
    dx[i] = accumulate ? dx[i] + d : d;
  }
}

}  // namespace parabola
