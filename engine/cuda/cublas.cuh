// cuBLAS, opened when it is first needed: a program built with CUDA starts on machines that have none.
#pragma once
#include "engine/core/device.h"

namespace parabola {

// C = op(A) op(B), or C += with accumulate, in cuBLAS's own order: column by column, columns ld_ elements apart. op(A)
// is [m, k], op(B) [k, n]; `count` such products, whose factors lie stride_ elements apart. Sums are in float32, for
// float64 in float64. TF32 rounds float32 factors to 10 bits of fraction, which the tensor cores multiply several times
// faster.
struct BlasProduct {
  int64_t m, n, k;
  const void *a, *b;
  void* c;
  int64_t ld_a, ld_b, ld_c;
  bool transpose_a = false, transpose_b = false, accumulate = false, tf32 = false;
  DType dtype = DType::f32;
  int64_t count = 1, stride_a = 0, stride_b = 0, stride_c = 0;
};

// Enqueues it. The same product gives the same bits again: one stream, a workspace of fixed size, no atomics, and
// blocks of memory aligned alike. DeviceError where cuBLAS is missing, Error where it fails.
void cublas_product(DeviceStream stream, const BlasProduct& product);

// DeviceError, saying what was looked for, where cuBLAS cannot be opened.
void require_cublas();

}  // namespace parabola
