// Products on the device against sums written down naively.
#include "engine/blas/gemm.cuh"

#include <cmath>

#include "engine/blas/precision.h"
#include "engine/core/tensor.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

using namespace parabola;
using namespace parabola::test;

namespace {

const Device device{DeviceKind::cuda, 0};

struct Matrices {  // `count` of each; rows are 3 elements longer than they need
  int64_t m, n, k, count = 1;
  bool transpose_a = false, transpose_b = false;
  int64_t stride_a() const { return (transpose_a ? m : k) + 3; }
  int64_t stride_b() const { return (transpose_b ? k : n) + 3; }
  int64_t stride_c() const { return n + 3; }
  int64_t step_a() const { return (transpose_a ? k : m) * stride_a(); }
  int64_t step_b() const { return (transpose_b ? n : k) * stride_b(); }
  int64_t step_c() const { return m * stride_c(); }
};

template <class T>
Tensor on_device(const Array& values) {
  const Shape shape{static_cast<int64_t>(values.size())};
  return Tensor::from(values, shape).to(dtype_of<T>, Category::inputs).to(device, Category::inputs);
}

Array values_of(const Tensor& tensor) { return tensor.on_cpu().to(DType::f64, Category::inputs).to_vector<double>(); }

template <class T>
T* pointer(const Tensor& tensor) {
  return reinterpret_cast<T*>(tensor.raw());
}

template <class T>
void check_product(const Matrices& p, double tolerance, bool accumulate) {
  const Tensor a = on_device<T>(random_array(p.count * p.step_a(), -1, 1, 1)),
               b = on_device<T>(random_array(p.count * p.step_b(), -1, 1, 2)),
               c = on_device<T>(random_array(p.count * p.step_c(), -1, 1, 3));
  const Array x = values_of(a), y = values_of(b);
  Array expected = values_of(c);
  for (int64_t q = 0; q < p.count; ++q)
    for (int64_t i = 0; i < p.m; ++i)
      for (int64_t j = 0; j < p.n; ++j) {
        double sum = 0;
        for (int64_t l = 0; l < p.k; ++l)
          sum +=
              x[static_cast<size_t>(q * p.step_a() + (p.transpose_a ? l * p.stride_a() + i : i * p.stride_a() + l))] *
              y[static_cast<size_t>(q * p.step_b() + (p.transpose_b ? j * p.stride_b() + l : l * p.stride_b() + j))];
        double& out = expected[static_cast<size_t>(q * p.step_c() + i * p.stride_c() + j)];
        out = accumulate ? out + sum : sum;
      }
  const Factor<T> left{pointer<T>(a), p.stride_a(), p.transpose_a}, right{pointer<T>(b), p.stride_b(), p.transpose_b};
  const DeviceStream stream = backend_of(device).stream(0);
  if (p.count == 1)
    device_gemm(stream, p.m, p.n, p.k, left, right, pointer<T>(c), p.stride_c(), accumulate);
  else
    device_gemm_batched(stream, p.count, p.m, p.n, p.k, left, p.step_a(), right, p.step_b(), pointer<T>(c),
                        p.stride_c(), p.step_c(), accumulate);
  CHECK(relative_error(values_of(c), expected) <= tolerance);
}

}  // namespace

TEST_CASE("device gemm: every transposition, strides, sums on top, batches") {
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true})
      for (const int64_t count : {1, 3})
        for (const bool accumulate : {false, true}) {
          const Matrices p{7, 5, 11, count, transpose_a, transpose_b};
          INFO("A", transpose_a ? "'" : "", " B", transpose_b ? "'" : "", ", ", count, " of them");
          check_product<float>(p, 1e-6, accumulate);
          check_product<double>(p, 1e-14, accumulate);
        }
  check_product<bf16>({7, 5, 11}, 0x1p-7, true);
  check_product<f16>({7, 5, 11}, 0x1p-10, true);
}

TEST_CASE("device gemm: the smallest sizes, and none") {
  check_product<float>({1, 1, 1}, 1e-6, false);
  check_product<float>({1, 9, 4, 2}, 1e-6, false);
  check_product<float>({3, 1, 4}, 1e-6, true);
  for (const Matrices& none : {Matrices{0, 3, 2}, Matrices{3, 0, 2}, Matrices{3, 2, 0}})
    for (const bool accumulate : {false, true}) check_product<float>(none, 1e-6, accumulate);
}

TEST_CASE("device gemm: TF32 where it is allowed") {
  allow_tf32(true);
  check_product<float>({16, 16, 16}, 1e-3, false);
  check_product<double>({16, 16, 16}, 1e-14, false);
  allow_tf32(false);
  CHECK_FALSE(tf32_allowed());
}
