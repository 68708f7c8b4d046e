// Chapter 5. Convolution, three ways
//
// At the end of this chapter you know what a convolution computes, why libraries turn it into a matrix product, and
// what that costs in memory.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/core/random.h"
#include "engine/ops/conv2d/conv2d.h"
#include "engine/ops/linear.h"
#include "engine/ops/view.h"

using namespace parabola;

// Sizes, in the letters used everywhere: N images of H x W pixels and C channels; K filters of R x S pixels and C
// channels. A stride of 1, and `padding` rows and columns of zeros around the image, which keep its size.
constexpr int64_t N = 2, H = 12, W = 12, C = 8, K = 16, R = 3, S = 3, padding = 1;

Tensor random_tensor(const Shape& shape, uint32_t item) {
  Random random({.seed = 5, .stream = Stream::test, .item = item});
  const Tensor tensor = Tensor::empty(shape);
  for (float& value : tensor.span<float>()) value = random.uniform(-1, 1);
  return tensor;
}

// The pixel (h, w) of image n, zeros outside of it: C floats one after the other, because images are NHWC.
const float* pixel(const Tensor& x, int64_t n, int64_t h, int64_t w) {
  static const float zeros[C] = {};
  return h < 0 || h >= H || w < 0 || w >= W ? zeros : x.data<float>() + ((n * H + h) * W + w) * C;
}

// 1. The definition: every filter is laid over every place; there, pixels and weights are multiplied and added up.
Tensor direct(const Tensor& x, const Tensor& filters) {
  const Tensor y = Tensor::empty({N, H, W, K});
  float* out = y.data<float>();
  for (int64_t n = 0; n < N; ++n)
    for (int64_t h = 0; h < H; ++h)
      for (int64_t w = 0; w < W; ++w)
        for (int64_t k = 0; k < K; ++k) {
          const float* weight = filters.data<float>() + k * R * S * C;
          float sum = 0;
          for (int64_t r = 0; r < R; ++r)
            for (int64_t s = 0; s < S; ++s) {
              const float* in = pixel(x, n, h + r - padding, w + s - padding);
              for (int64_t c = 0; c < C; ++c) sum += in[c] * *weight++;
            }
          *out++ = sum;
        }
  return y;
}

// 2. Im2col: write down what each place sees as one row of R S C numbers. A place and a filter then meet in a dot
// product, and all of them together in one matrix product, the operation that processors do best.
Tensor im2col(const Tensor& x) {
  const Tensor rows = Tensor::empty({N, H, W, R * S * C});
  float* out = rows.data<float>();
  for (int64_t n = 0; n < N; ++n)
    for (int64_t h = 0; h < H; ++h)
      for (int64_t w = 0; w < W; ++w)
        for (int64_t r = 0; r < R; ++r)
          for (int64_t s = 0; s < S; ++s) {
            const float* in = pixel(x, n, h + r - padding, w + s - padding);
            out = std::copy(in, in + C, out);
          }
  return rows;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  double worst = 0;
  for (int64_t i = 0; i < a.elements(); ++i) worst = std::max(worst, std::abs(a.at(i) - b.at(i)));
  return worst;
}

int main() {
  const Tensor x = random_tensor({N, H, W, C}, 0), filters = random_tensor({K, R, S, C}, 1);

  const Tensor loops = direct(x, filters);
  const Tensor rows = im2col(x), product = linear(rows, reshape(filters, {K, R * S * C}));
  // 3. The engine's op: a product as well, but rows are made some at a time, where they are still in the cache when
  // they are read; the large matrix is never there.
  const Tensor op = conv2d(x, filters, {}, {.padding = padding});

  std::printf("x %s, filters %s, y %s\n", x.shape().str().c_str(), filters.shape().str().c_str(),
              op.shape().str().c_str());
  std::printf("y at the first place:  loops %.4f, product %.4f, op %.4f\n", loops.at(0), product.at(0), op.at(0));
  // Sums in another order round differently: equal up to the last digits of a float, 1e-5 for sums of 72 numbers.
  std::printf("loops and product are %s, loops and op are %s\n",
              largest_difference(loops, product) < 1e-5 ? "equal" : "DIFFERENT",
              largest_difference(loops, op) < 1e-5 ? "equal" : "DIFFERENT");
  std::printf("x has %lld numbers, the matrix of im2col %lld: every pixel up to R S = %lld times\n",
              static_cast<long long>(x.elements()), static_cast<long long>(rows.elements()),
              static_cast<long long>(R * S));
  std::printf("multiply-adds: N H W K R S C = %lld, whichever way\n",
              static_cast<long long>(N * H * W * K * R * S * C));
}

// Exercise: write the depthwise convolution as direct() does, where channel c of y sees channel c of x alone, and
// compare it with depthwise_conv2d.

// Prints:
//   x [2, 12, 12, 8], filters [16, 3, 3, 8], y [2, 12, 12, 16]
//   y at the first place:  loops 2.4926, product 2.4926, op 2.4926
//   loops and product are equal, loops and op are equal
//   x has 2304 numbers, the matrix of im2col 20736: every pixel up to R S = 9 times
//   multiply-adds: N H W K R S C = 331776, whichever way
