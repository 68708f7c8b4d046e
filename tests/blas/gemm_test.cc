#include "engine/blas/gemm.h"

// g++ 12 takes the undefined operands inside its own AVX-512 intrinsics for mistakes (GCC bug 105593).
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <Eigen/Core>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "engine/core/dtype.h"
#include "engine/core/random.h"
#include "engine/core/thread_pool.h"
#include "tests/support/test.h"

namespace parabola::gemm_test {
namespace {

template <class T>
std::vector<T> numbers(int64_t count, uint32_t item) {
  Random random({.seed = 3, .stream = Stream::test, .step = 0, .item = item});
  std::vector<T> values(static_cast<size_t>(count));
  for (T& value : values) value = static_cast<T>(random.uniform(-1, 1));
  return values;
}

struct Product {
  int64_t m, n, k;
  bool transpose_a = false, transpose_b = false, accumulate = false;
  int64_t gap = 0;  // between the end of a row and the start of the next one, in all three matrices
  bool threaded = false;
};

// The largest error of an element over the bound of its sum, (k + 1) eps sum |a| |b|; above 1 something is wrong.
// Elements between the rows of C must stay as they were.
template <class T>
double error_of(const Product& p) {
  const int64_t stride_a = (p.transpose_a ? p.m : p.k) + p.gap, stride_b = (p.transpose_b ? p.k : p.n) + p.gap;
  const int64_t stride_c = p.n + (p.threaded ? 0 : p.gap);
  const std::vector<T> a = numbers<T>((p.transpose_a ? p.k : p.m) * stride_a + 1, 1);
  const std::vector<T> b = numbers<T>((p.transpose_b ? p.n : p.k) * stride_b + 1, 2);
  const std::vector<T> before = numbers<T>(p.m * stride_c + 1, 3);
  std::vector<T> c = before, workspace(static_cast<size_t>(gemm_workspace(p.m, p.n, p.k)));
  const Factor<T> left{a.data(), stride_a, p.transpose_a}, right{b.data(), stride_b, p.transpose_b};
  if (p.threaded)
    gemm(p.m, p.n, p.k, left, right, c.data(), p.accumulate, workspace.data());
  else
    tile_product(p.m, p.n, p.k, left, right, c.data(), stride_c, p.accumulate);
  double worst = 0;
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < stride_c; ++j) {
      const size_t at = static_cast<size_t>(i * stride_c + j);
      double sum = p.accumulate || j >= p.n ? static_cast<double>(before[at]) : 0, size = std::abs(sum);
      for (int64_t l = 0; l < p.k && j < p.n; ++l) {
        const double x = static_cast<double>(*left.at(i, l).data), y = static_cast<double>(*right.at(l, j).data);
        sum += x * y;
        size += std::abs(x * y);
      }
      const double bound = static_cast<double>(p.k + 1) * std::numeric_limits<T>::epsilon() * size;
      worst = std::max(worst, std::abs(static_cast<double>(c[at]) - sum) / std::max(bound, 1e-300));
    }
  }
  return worst;
}

void check(const Product& p) {
  const std::string what = concat(p.m, " x ", p.n, " x ", p.k, ", transposed ", p.transpose_a, p.transpose_b,
                                  ", accumulate ", p.accumulate, ", threaded ", p.threaded);
  INFO(what);
  CHECK(error_of<float>(p) <= 1);
  CHECK(error_of<double>(p) <= 1);
}

}  // namespace

TEST_CASE("gemm: a tile's product is right for every size, transposition and stride") {
  // Around a vector of 8 or 16, a panel of up to 64 columns, blocks of 6 or 8 rows, and packed panels 256 deep.
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 1, 1},
                                {1, 7, 5},
                                {9, 1, 4},
                                {3, 5, 1},
                                {2, 3, 4},
                                {17, 16, 27},
                                {64, 49, 31},
                                {129, 48, 9},
                                {7, 193, 20},
                                {5, 6, 289},
                                {3, 50, 513},
                                {29, 269, 31},  // packed strips, and few columns after the last group of panels
                                {3, 4, 0},
                                {0, 4, 3},
                                {4, 0, 3}}) {
    for (int flags = 0; flags < 8; ++flags) check({m, n, k, (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0, 3});
  }
  for (const int64_t n : {77, 269}) check({29, n, 31, true, false, false, 1100});  // packed strips of a transposed A
}

TEST_CASE_TEMPLATE("gemm: patches and panels give the bits of factors", T, float, double) {
  for (const auto& size : {std::array<int64_t, 3>{13, 16, 16},
                           {32, 48, 16},
                           {9, 80, 16},
                           {8, 7, 16},
                           {32, 64, 64},
                           {5, 20, 33},
                           {9, 333, 40}}) {
    const int64_t m = size[0], n = size[1], k = size[2];
    const std::vector<T> a = numbers<T>(m * k, 1), b = numbers<T>(n * k, 2);
    std::vector<T> expected(static_cast<size_t>(m * n)), c = expected;
    tile_product<T>(m, n, k, {a.data(), k}, {b.data(), k, true}, expected.data(), n, false);
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < m; ++i) rows.push_back(i * k);
    std::vector<T> packed(static_cast<size_t>(panel_elements(n, k)));
    const int64_t first = k / 3;  // in two parts, of which the second has the rest
    pack_panel_rows<T>(n, k, {b.data(), k, true}, 0, first, packed.data());
    pack_panel_rows<T>(n, k, {b.data() + first, k, true}, first, k - first, packed.data());
    tile_product<T>(m, n, {a.data(), rows.data(), {1, 1}, {0, 0}, k}, {packed.data(), k}, c.data(), n, false);
    INFO(m, " x ", n, " x ", k);
    CHECK(c == expected);
  }
}

TEST_CASE("gemm: the threaded product is right, with the long axis cut and uncut") {
  for (const auto& [m, n, k] :
       {std::array<int64_t, 3>{130, 200, 40}, {16, 27, 2000}, {300, 10, 64}, {1, 3, 1025}, {5, 5, 0}}) {
    for (int flags = 0; flags < 8; ++flags)
      check({m, n, k, (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0, 0, true});
  }
  CHECK(gemm_workspace(130, 200, 40) == 0);
  CHECK(gemm_workspace(16, 27, 2000) == 7 * 16 * 27);
}

TEST_CASE_TEMPLATE("gemm: bits depend neither on addresses and strides nor on threads", T, float, double) {
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 37, 50}, {37, 1, 50}, {2, 3, 4}, {5, 7, 3}, {33, 50, 61}}) {
    const std::vector<T> a = numbers<T>(m * k, 1), b = numbers<T>(n * k, 2);
    std::vector<T> expected(static_cast<size_t>(m * n));
    tile_product<T>(m, n, k, {a.data(), k}, {b.data(), k, true}, expected.data(), n, false);
    for (int64_t offset = 0; offset < 5; ++offset) {
      std::vector<T> c(static_cast<size_t>(offset + m * (n + offset)));
      tile_product<T>(m, n, k, {a.data(), k}, {b.data(), k, true}, c.data() + offset, n + offset, false);
      bool same = true;
      for (int64_t i = 0; i < m * n; ++i)
        same &= c[static_cast<size_t>(offset + i / n * (n + offset) + i % n)] == expected[static_cast<size_t>(i)];
      CHECK(same);
    }
  }
  const int64_t m = 70, n = 20, k = 3000;
  const std::vector<T> a = numbers<T>(m * k, 1), b = numbers<T>(n * k, 2);
  std::vector<T> workspace(static_cast<size_t>(gemm_workspace(m, n, k))), results[2];
  for (const int threads : {1, 3}) {
    set_threads(threads);
    std::vector<T>& c = results[threads == 3];
    c.resize(static_cast<size_t>(m * n));
    gemm<T>(m, n, k, {a.data(), m, true}, {b.data(), n}, c.data(), false, workspace.data());
  }
  set_threads(1);
  CHECK(results[0] == results[1]);
}

TEST_CASE("gemm: agrees with Eigen's product") {
  const int64_t m = 70, n = 95, k = 300;
  const std::vector<float> a = numbers<float>(m * k, 1), b = numbers<float>(k * n, 2);
  std::vector<float> c(static_cast<size_t>(m * n));
  tile_product<float>(m, n, k, {a.data(), k}, {b.data(), n}, c.data(), n, false);
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Matrix expected = Eigen::Map<const Matrix>(a.data(), m, k) * Eigen::Map<const Matrix>(b.data(), k, n);
  const Matrix gap = Eigen::Map<const Matrix>(c.data(), m, n) - expected;
  CHECK(gap.norm() / expected.norm() < 1e-6f);
}

}  // namespace parabola::gemm_test
