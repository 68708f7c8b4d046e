// What mlp.cu does between cuBLAS's products.
#pragma once
#include "engine/cuda/warp.cuh"
#include "engine/ops/column_grid.cuh"
#include "engine/ops/normal_distribution.cuh"

namespace parabola::mlp_cuda {

// From u, the hidden values before gelu: h = gelu(u), where h is not null, and in place of h's gradient u's, where that
// is not. h may be u itself.
template <class T>
__global__ void mlp_gelu(const T* u, T* h, T* gradient, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) {
    const T x = u[i], distribution = normal_distribution(x);
    if (gradient) gradient[i] *= std::fma(x, normal_density(x), distribution);
    if (h) h[i] = x * distribution;
  }
}

// y = residual + scale ∘ y, [rows, columns]; either may be null.
template <class T>
__global__ void mlp_finish(const T* scale, const T* residual, T* y, int64_t rows, int64_t columns) {
  const int64_t c = thread_index();
  if (c >= columns) return;
  for (int64_t row = thread_row(); row < rows; row += row_count()) {
    const int64_t i = row * columns + c;
    const T value = scale ? scale[c] * y[i] : y[i];
    y[i] = residual ? residual[i] + value : value;
  }
}

// dz = scale ∘ dy, [rows, columns].
template <class T>
__global__ void mlp_scale_rows(const T* scale, const T* dy, T* dz, int64_t rows, int64_t columns) {
  const int64_t c = thread_index();
  if (c >= columns) return;
  for (int64_t row = thread_row(); row < rows; row += row_count())
    dz[row * columns + c] = scale[c] * dy[row * columns + c];
}

// Where the gradients of the scale and of what it scales go; null: not wanted.
template <class T>
struct ScaledGradients {
  T *weight2, *bias2, *scale;
  bool add_weight2, add_bias2, add_scale;
};

// These, from product = dyᵀ h [K, H] and dy's column sums. A block takes a row.
template <class T>
__global__ void mlp_finish_scaled(const T* scale, const T* weight2, const T* bias2, const T* product, const T* totals,
                                  ScaledGradients<T> to, int64_t K, int64_t H) {
  T* scratch = shared_memory<T>();
  const auto store = [](T* at, bool add, T value) { *at = add ? *at + value : value; };
  for (int64_t k = blockIdx.x; k < K; k += gridDim.x) {
    T sum = 0;
    for (int64_t i = k * H + threadIdx.x; i < (k + 1) * H; i += blockDim.x) {
      if (to.scale) sum = std::fma(weight2[i], product[i], sum);
      if (to.weight2) store(to.weight2 + i, to.add_weight2, scale[k] * product[i]);
    }
    if (to.scale) sum = block_reduce(sum, Sum(), scratch);
    if (threadIdx.x != 0) continue;
    if (to.scale) store(to.scale + k, to.add_scale, bias2 ? std::fma(bias2[k], totals[k], sum) : sum);
    if (to.bias2) store(to.bias2 + k, to.add_bias2, scale[k] * totals[k]);
  }
}

// dresidual = or += dy.
template <class T>
__global__ void mlp_residual_gradient(const T* dy, T* d, bool add, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) d[i] = add ? d[i] + dy[i] : dy[i];
}

}  // namespace parabola::mlp_cuda
