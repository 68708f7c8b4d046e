// cuBLAS on the emulated grid: Eigen.
#include "engine/cuda/cublas.cuh"

#ifndef EIGEN_DONT_PARALLELIZE
#define EIGEN_DONT_PARALLELIZE
#endif
#include <Eigen/Core>

#include "engine/core/error.h"
#include "tests/emulated/grid.h"

namespace parabola {
namespace {

using Stride = Eigen::OuterStride<>;

// The matrix as it lies there, rounded as tensor cores do before they multiply.
template <class T, class Real>
Eigen::MatrixX<Real> factor(const void* data, int64_t rows, int64_t columns, int64_t ld, bool tf32) {
  Eigen::MatrixX<Real> matrix(rows, columns);
  for (int64_t j = 0; j < columns; ++j)
    for (int64_t i = 0; i < rows; ++i) {
      matrix(i, j) = static_cast<Real>(static_cast<const T*>(data)[j * ld + i]);
      // TF32 is a float that has lost 13 bits.
      if (tf32)
        matrix(i, j) = static_cast<Real>(
            std::bit_cast<float>((std::bit_cast<uint32_t>(static_cast<float>(matrix(i, j))) + 0x1000u) & 0xffffe000u));
    }
  return matrix;
}

template <class T, class Real>
void product(const BlasProduct& p, int64_t index) {
  const auto at = [&](const void* data, int64_t stride) { return static_cast<const T*>(data) + index * stride; };
  Eigen::MatrixX<Real> a = factor<T, Real>(at(p.a, p.stride_a), p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k,
                                           p.ld_a, p.tf32 && sizeof(T) == 4);
  Eigen::MatrixX<Real> b = factor<T, Real>(at(p.b, p.stride_b), p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n,
                                           p.ld_b, p.tf32 && sizeof(T) == 4);
  if (p.transpose_a) a.transposeInPlace();
  if (p.transpose_b) b.transposeInPlace();
  Eigen::MatrixX<Real> c = Eigen::MatrixX<Real>::Zero(p.m, p.n);
  if (p.k > 0) c.noalias() = a * b;
  T* out = static_cast<T*>(p.c) + index * p.stride_c;
  for (int64_t j = 0; j < p.n; ++j)
    for (int64_t i = 0; i < p.m; ++i) {
      T& element = out[j * p.ld_c + i];
      element = static_cast<T>(p.accumulate ? static_cast<Real>(element) + c(i, j) : c(i, j));
    }
}

}  // namespace

void require_cublas() {}

void cublas_product(DeviceStream stream, const BlasProduct& p) {
  // What cuBLAS refuses.
  if (!emulated::is_stream(stream) || p.m < 1 || p.n < 1 || p.k < 0 || p.count < 1 ||
      p.ld_a < std::max<int64_t>(1, p.transpose_a ? p.k : p.m) || p.ld_c < p.m ||
      p.ld_b < std::max<int64_t>(1, p.transpose_b ? p.n : p.k))
    fail<Error>("cublas", "cublasGemmStridedBatchedEx failed: invalid value");
  const emulated::OpenDeviceMemory open;
  for (int64_t i = 0; i < p.count; ++i) {
    if (p.dtype == DType::f32)
      product<float, float>(p, i);
    else if (p.dtype == DType::f64)
      product<double, double>(p, i);
    else if (p.dtype == DType::bf16)
      product<bf16, float>(p, i);
    else
      product<f16, float>(p, i);
  }
}

}  // namespace parabola
