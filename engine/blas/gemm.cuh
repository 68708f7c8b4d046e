// Matrix products on CUDA: gemm.h's, enqueued on a stream. The arithmetic is cuBLAS's.
#pragma once
#include "engine/blas/gemm.h"
#include "engine/core/device.h"

namespace parabola {

// C [m, n] = op(A) op(B), or C += with accumulate; C row-major with rows `stride` elements apart, T any floating type.
// What has no elements costs nothing; a product over k = 0 is zero.
template <class T>
void device_gemm(DeviceStream stream, int64_t m, int64_t n, int64_t k, const Factor<T>& a, const Factor<T>& b, T* c,
                 int64_t stride, bool accumulate);

// `count` of them in one call: the i-th has its factors and result i times step_a, step_b and step_c elements further
// on. A step of 0 uses the same factor for all.
template <class T>
void device_gemm_batched(DeviceStream stream, int64_t count, int64_t m, int64_t n, int64_t k, const Factor<T>& a,
                         int64_t step_a, const Factor<T>& b, int64_t step_b, T* c, int64_t stride, int64_t step_c,
                         bool accumulate);

}  // namespace parabola
