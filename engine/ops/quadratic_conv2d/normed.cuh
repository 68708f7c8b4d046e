// The kernels of quadratic_conv2d_normed on CUDA, for z [pixels, 3 K], the branches before their norms; the formulas
// are in normed.cc. A thread keeps to one output of all three branches.
#pragma once
#include "engine/ops/column_grid.cuh"
#include "engine/ops/column_moments.cuh"

namespace parabola::normed {

// What normalises the branches: statistics [3 K], and each branch's gamma and beta [K].
template <class T>
struct Norms {
  const T *mean, *rstd, *gamma[3], *beta[3];
  int64_t K;
};

// One branch's output k, read once by a thread that keeps to that.
template <class T>
struct BranchNorm {
  T mean, rstd, scale, beta;
  __device__ BranchNorm(const Norms<T>& norms, int branch, int64_t k)
      : mean(norms.mean[branch * norms.K + k]),
        rstd(norms.rstd[branch * norms.K + k]),
        scale(norms.gamma[branch][k] * rstd),
        beta(norms.beta[branch][k]) {}
  // z - mean first, as in batch_norm.
  __device__ T operator()(T z) const { return std::fma(z - mean, scale, beta); }
};

// The output k of all three at one pixel.
template <class T>
struct BranchNorms {
  BranchNorm<T> a, b, c;
  __device__ BranchNorms(const Norms<T>& norms, int64_t k) : a(norms, 0, k), b(norms, 1, k), c(norms, 2, k) {}
  // The gradients of the normed branches from y's.
  __device__ void gradients(const T* z, int64_t K, T dy, T (&d)[3]) const {
    d[0] = dy * b(z[K]), d[1] = dy * a(z[0]), d[2] = dy;
  }
  __device__ const BranchNorm<T>& operator[](int branch) const { return branch == 0 ? a : branch == 1 ? b : c; }
};

// Statistics that are given: mean and inverse deviation [3 K] of the running ones.
template <class T>
struct Given {
  const T *mean[3], *variance[3];
};
template <class T>
__global__ void normed_given_statistics(Given<T> given, double eps, T* mean, T* rstd, int64_t K) {
  for (int64_t i = thread_index(); i < 3 * K; i += thread_count()) {
    mean[i] = given.mean[i / K][i % K];
    rstd[i] = static_cast<T>(1 / std::sqrt(given.variance[i / K][i % K] + eps));
  }
}

// Those of the batch, column by column of z.
template <class T>
struct StatisticsOfBranches {
  BatchStatistics<T> branch[3];
  int64_t K;
  __device__ void set(int64_t i, double centre, double variance) const { branch[i / K].set(i % K, centre, variance); }
};

template <class T>
__global__ void normed_forward(Norms<T> norms, const T* z, T* y, int64_t rows) {
  const int64_t k = thread_index(), K = norms.K;
  if (k >= K) return;
  const BranchNorms<T> norm(norms, k);
  for (int64_t row = thread_row(); row < rows; row += row_count()) {
    const T* in = z + row * 3 * K + k;
    y[row * K + k] = std::fma(norm.a(in[0]), norm.b(in[K]), norm.c(in[2 * K]));
  }
}

// With d the gradients of the normed branches: the sums of d, then those of d z_hat, of each branch.
template <class T>
struct NormedTerms {
  Norms<T> norms;
  const T *z, *dy;
  __device__ void add(int64_t row, int64_t k, T (&sums)[6]) const {
    const BranchNorms<T> norm(norms, k);
    const T* in = z + row * 3 * norms.K + k;
    T d[3];
    norm.gradients(in, norms.K, dy[row * norms.K + k], d);
    for (int branch = 0; branch < 3; ++branch) {
      const BranchNorm<T>& n = norm[branch];
      sums[branch] += d[branch];
      sums[3 + branch] = std::fma(d[branch], (in[branch * norms.K] - n.mean) * n.rstd, sums[3 + branch]);
    }
  }
};

// Where they go: `sums` [2][3 K], and the gradients of beta and gamma; null where not wanted.
template <class T>
struct NormedGradients {
  T *sums, *d[6];
  bool accumulate[6];
  int64_t K;
  __device__ void set(int64_t i, double sum) const {
    const int64_t which = i / K, k = i % K;
    sums[i] = static_cast<T>(sum);
    if (d[which]) d[which][k] = accumulate[which] ? d[which][k] + static_cast<T>(sum) : static_cast<T>(sum);
  }
};

// dz, which may take the place of z; sums are null where statistics are given.
template <class T>
__global__ void normed_backward(Norms<T> norms, const T* z, const T* dy, const T* sums, T* dz, int64_t rows) {
  const int64_t k = thread_index(), K = norms.K;
  if (k >= K) return;
  const BranchNorms<T> norm(norms, k);
  const T part = T(1) / static_cast<T>(rows);
  for (int64_t row = thread_row(); row < rows; row += row_count()) {
    const T* in = z + row * 3 * K + k;
    T d[3];
    norm.gradients(in, K, dy[row * K + k], d);
    for (int branch = 0; branch < 3; ++branch) {
      const BranchNorm<T>& n = norm[branch];
      const int64_t at = branch * K;
      if (sums) d[branch] -= part * std::fma((in[at] - n.mean) * n.rstd, sums[3 * K + at + k], sums[at + k]);
      dz[row * 3 * K + k + at] = n.scale * d[branch];
    }
  }
}

}  // namespace parabola::normed
