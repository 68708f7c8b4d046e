#include "engine/blas/gemm.cuh"

#include <algorithm>

#include "engine/blas/precision.h"
#include "engine/cuda/cublas.cuh"

namespace parabola {

// cuBLAS reads memory column by column. There a row-major matrix looks like its transpose, so what is computed is
// C' = B' A', with the factors in the other order and nothing moved.
template <class T>
void device_gemm_batched(DeviceStream stream, int64_t count, int64_t m, int64_t n, int64_t k, const Factor<T>& a,
                         int64_t step_a, const Factor<T>& b, int64_t step_b, T* c, int64_t stride, int64_t step_c,
                         bool accumulate) {
  if (count == 0 || m == 0 || n == 0) return;
  cublas_product(stream, {.m = n,
                          .n = m,
                          .k = k,
                          .a = b.data,
                          .b = a.data,
                          .c = c,
                          .ld_a = std::max<int64_t>(1, b.stride),
                          .ld_b = std::max<int64_t>(1, a.stride),
                          .ld_c = stride,
                          .transpose_a = b.transposed,
                          .transpose_b = a.transposed,
                          .accumulate = accumulate,
                          .tf32 = tf32_allowed(),
                          .dtype = dtype_of<T>,
                          .count = count,
                          .stride_a = step_b,
                          .stride_b = step_a,
                          .stride_c = step_c});
}

template <class T>
void device_gemm(DeviceStream stream, int64_t m, int64_t n, int64_t k, const Factor<T>& a, const Factor<T>& b, T* c,
                 int64_t stride, bool accumulate) {
  device_gemm_batched(stream, 1, m, n, k, a, 0, b, 0, c, stride, 0, accumulate);
}

#define PARABOLA_INSTANTIATE(T)                                                                                       \
  template void device_gemm(DeviceStream, int64_t, int64_t, int64_t, const Factor<T>&, const Factor<T>&, T*, int64_t, \
                            bool);                                                                                    \
  template void device_gemm_batched(DeviceStream, int64_t, int64_t, int64_t, int64_t, const Factor<T>&, int64_t,      \
                                    const Factor<T>&, int64_t, T*, int64_t, int64_t, bool)
PARABOLA_INSTANTIATE(float);
PARABOLA_INSTANTIATE(double);
PARABOLA_INSTANTIATE(bf16);
PARABOLA_INSTANTIATE(f16);

}  // namespace parabola
