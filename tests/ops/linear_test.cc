#include "engine/ops/linear.h"

#include "engine/ops/batched_matmul.h"
#include "engine/ops/matmul.h"
#include "engine/tape/tape.h"
#include "tests/ops/golden.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

namespace parabola::linear_test {

using namespace test;

namespace {

// y[i][j] = bias[j] + sum over c of x[i][c] w[j][c], or w[c][j].
std::function<std::vector<Array>(const std::vector<Array>&)> naive(size_t inputs, size_t outputs, bool transposed) {
  return [=](const std::vector<Array>& in) {
    const size_t rows = in[0].size() / inputs;
    Array y;
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < outputs; ++j) {
        double sum = in.size() > 2 && !in[2].empty() ? in[2][j] : 0;
        for (size_t c = 0; c < inputs; ++c)
          sum += in[0][i * inputs + c] * in[1][transposed ? j * inputs + c : c * outputs + j];
        y.push_back(sum);
      }
    }
    return std::vector<Array>{y};
  };
}

}  // namespace

TEST_CASE("linear") {
  const auto check = [](const char* name, Shape x, int64_t outputs, bool bias, bool frozen = false,
                        int differences = 60) {
    const int64_t inputs = x.back();
    check_op({.name = name,
              .op = &linear_op,
              .inputs = {{.shape = x},
                         {.shape = {outputs, inputs}, .gradient = !frozen},
                         {.shape = {outputs}, .gradient = !frozen, .absent = !bias}},
              .reference = naive(static_cast<size_t>(inputs), static_cast<size_t>(outputs), true),
              .max_differences = differences});
  };
  check("one of everything", {1, 1}, 1, true);
  check("a vector", {7}, 5, true);
  check("primes, no bias", {2, 3, 7}, 13, false);
  check("weight frozen", {5, 6}, 11, true, true);
  check("no rows", {0, 3}, 2, true);
  check("tiles of rows and columns", {67, 10}, 197, true, false, 12);
  check("long inner axis of the weight gradient", {1030, 3}, 5, true, false, 12);
}

TEST_CASE("matmul") {
  const auto check = [](const char* name, Shape a, int64_t outputs) {
    check_op({.name = name,
              .op = &matmul_op,
              .inputs = {{.shape = a}, {.shape = {a.back(), outputs}}},
              .reference = naive(static_cast<size_t>(a.back()), static_cast<size_t>(outputs), false),
              .max_differences = 20});
  };
  check("primes", {2, 5, 7}, 3);
  check("one column", {4, 6}, 1);
  check("tiles of rows and columns", {65, 9}, 193);
}

TEST_CASE("batched_matmul") {
  const auto check = [](const char* name, const Shape& leading, int64_t rows, int64_t inner, int64_t columns,
                        bool frozen = false) {
    for (const int transposed : {0, 1, 2, 3}) {
      const bool a = transposed & 1, b = transposed & 2;
      const auto shape = [&](int64_t first, int64_t second, bool swapped) {
        std::vector<int64_t> sizes(leading.sizes().begin(), leading.sizes().end());
        sizes.insert(sizes.end(), {swapped ? second : first, swapped ? first : second});
        return Shape(std::span<const int64_t>(sizes));
      };
      const auto reference = [&](const std::vector<Array>& in) {
        Array y;
        const auto at = [](int64_t n, int64_t i, int64_t j, int64_t first, int64_t second, bool swapped) {
          return static_cast<size_t>(n * first * second + (swapped ? j * first + i : i * second + j));
        };
        for (int64_t n = 0; n < leading.elements(); ++n)
          for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < columns; ++j) {
              double sum = 0;
              for (int64_t k = 0; k < inner; ++k)
                sum += in[0][at(n, i, k, rows, inner, a)] * in[1][at(n, k, j, inner, columns, b)];
              y.push_back(sum);
            }
        return std::vector<Array>{y};
      };
      check_op({.name = name,
                .op = &batched_matmul_op,
                .inputs = {{.shape = shape(rows, inner, a)}, {.shape = shape(inner, columns, b), .gradient = !frozen}},
                .attributes = BatchedMatmulAttributes{a, b},
                .reference = reference,
                .max_differences = 10});
    }
  };
  check("primes", {2, 3}, 5, 7, 3);
  check("one product", {}, 3, 2, 4);
  check("one of everything", {3}, 1, 1, 1);
  check("second factor frozen", {2}, 3, 5, 2, true);
  check("no products", {0}, 3, 5, 2);
  check("tiles of rows and columns", {2}, 67, 5, 193);
}

TEST_CASE("golden: batched_matmul") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    const GoldenCase golden("batched_matmul", dtype);
    const Tensor a = golden.leaf("a"), b = golden.leaf("b");
    Tape tape;
    golden.check_gradients(batched_matmul(a, b, {.transpose_a = true, .transpose_b = true}), {{"a", a}, {"b", b}});
  }
}

TEST_CASE("matmul of two stacks is batched_matmul") {
  const Tensor a = Tensor::from(std::vector<float>{1, 2, 3, 4}, {2, 1, 2});
  const Tensor b = Tensor::from(std::vector<float>{1, 2, 3, 4}, {2, 2, 1});
  CHECK(matmul(a, b).shape() == Shape{2, 1, 1});
  CHECK(matmul(a, b).to_vector<float>() == std::vector<float>{5, 25});
}

TEST_CASE("linear, matmul: wrong shapes are named") {
  const auto tensor = [](Shape shape, DType dtype = DType::f32) { return Tensor::full(shape, 1.0, dtype); };
  CHECK_THROWS_WITH_AS(linear(tensor({2, 3}), tensor({4, 5})),
                       "[linear] weight: got [4, 5] for an input of shape [2, 3], expected [K, 3]", ShapeError);
  CHECK_THROWS_WITH_AS(linear(tensor({2, 3}), tensor({3})),
                       "[linear] weight: got [3] for an input of shape [2, 3], expected [K, 3]", ShapeError);
  CHECK_THROWS_WITH_AS(linear(tensor({}), tensor({4, 5})), "[linear] input: got a scalar, expected [..., C]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(linear(tensor({2, 3}), tensor({4, 3}), tensor({3})), "[linear] bias: got [3], expected [4]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(linear(tensor({2, 3}), tensor({4, 3}, DType::f64)),
                       "[linear] got f32 and f64, expected one dtype", DTypeError);
  CHECK_THROWS_WITH_AS(matmul(tensor({2, 3}), tensor({4, 3})),
                       "[matmul] second factor: got [4, 3] for an input of shape [2, 3], expected [3, K]", ShapeError);
  CHECK_THROWS_WITH_AS(batched_matmul(tensor({2, 3, 4}), tensor({2, 3, 4})),
                       "[batched_matmul] second factor: got [2, 3, 4] for a first one of [2, 3, 4], expected the same "
                       "leading axes and 4 rows",
                       ShapeError);
  CHECK_THROWS_WITH_AS(
      batched_matmul(tensor({2, 3, 4}), tensor({3, 5, 3}), {.transpose_a = true, .transpose_b = true}),
      "[batched_matmul] second factor: got [3, 5, 3] for a first one of [2, 3, 4] transposed, expected "
      "the same leading axes and 3 columns",
      ShapeError);
  CHECK_THROWS_WITH_AS(batched_matmul(tensor({4}), tensor({4})),
                       "[batched_matmul] first factor: got [4], expected [..., M, C]", ShapeError);
}

}  // namespace parabola::linear_test
