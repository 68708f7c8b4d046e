// The gradients of gamma and beta on CUDA, y = gamma x_hat + beta with x_hat = (x - mean) / deviation: what the norms
// give to device_column_sums<2>.
#pragma once
#include "engine/ops/column_sums.cuh"

namespace parabola {

// dy, zero where a relu gave zero: by its result y, where that is not null, or, where x is not, by its argument made
// again from that and the residual, if there is one.
template <class T>
struct Upstream {
  const T *dy, *y = nullptr, *x = nullptr, *mean = nullptr, *rstd = nullptr, *gamma = nullptr, *beta = nullptr,
               *residual = nullptr;
  __device__ T operator()(int64_t i, int64_t c) const {
    if (y) return y[i] > 0 ? dy[i] : T(0);
    if (!x) return dy[i];
    T argument = std::fma(x[i] - mean[c], gamma[c] * rstd[c], beta[c]);
    if (residual) argument += residual[i];
    return argument > 0 ? dy[i] : T(0);
  }
};

// The terms of dbeta and dgamma, dy and dy x_hat; x is null where the second is not wanted. Statistics are those of
// rows (layer_norm) or of columns (batch_norm).
template <class T, bool of_rows>
struct NormTerms {
  const T* x;
  Upstream<T> dy;
  const T *mean, *rstd;
  int64_t channels;
  __device__ void add(int64_t row, int64_t c, T (&sums)[2]) const {
    const T g = dy(row * channels + c, c);
    const int64_t s = of_rows ? row : c;
    sums[0] += g;
    if (x) sums[1] = std::fma(g, (x[row * channels + c] - mean[s]) * rstd[s], sums[1]);
  }
};

// Where they go: dbeta, dgamma; null where not wanted. The sums themselves as well, where `sums` [2][channels] is not
// null.
template <class T>
struct NormGradients {
  T* d[2];
  bool accumulate[2];
  int64_t channels;
  T* sums = nullptr;
  __device__ void set(int64_t i, double sum) const {
    const int64_t which = i < channels ? 0 : 1, c = i - which * channels;
    if (sums) sums[i] = static_cast<T>(sum);
    if (d[which]) d[which][c] = accumulate[which] ? d[which][c] + static_cast<T>(sum) : static_cast<T>(sum);
  }
};

}  // namespace parabola
