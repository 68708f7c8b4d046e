#include "engine/ops/linear.h"

#include "engine/ops/matmul.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

using namespace parabola;
using namespace parabola::test;

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
}
