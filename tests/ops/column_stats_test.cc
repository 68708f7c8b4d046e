#include "engine/ops/column_stats.h"

#include <doctest/doctest.h>

#include "engine/ops/lanes.h"
#include "tests/ops/harness.h"

namespace parabola::column_stats_test {

using namespace test;

namespace {

std::vector<float> floats(int64_t count, double low, double high) {
  const Array values = random_array(count, low, high, 1);
  return {values.begin(), values.end()};
}

struct Moments {
  std::vector<float> mean, variance;
};

Moments moments_of(const std::vector<float>& x, const RowBlocks& matrix) {
  Moments result{std::vector<float>(static_cast<size_t>(matrix.columns)),
                 std::vector<float>(static_cast<size_t>(matrix.columns))};
  std::vector<float> workspace(column_moments_workspace<float>(matrix) / sizeof(float));
  column_moments(x.data(), matrix, workspace.data(), result.mean.data(), result.variance.data());
  return result;
}

// Two passes in double.
Moments naive_moments(const std::vector<float>& x, const RowBlocks& matrix) {
  Moments result;
  const double rows = static_cast<double>(matrix.rows);
  for (int64_t c = 0; c < matrix.columns; ++c) {
    const auto at = [&](int64_t row) { return static_cast<double>(x[static_cast<size_t>(row * matrix.columns + c)]); };
    double mean = 0, variance = 0;
    for (int64_t row = 0; row < matrix.rows; ++row) mean += at(row) / rows;
    for (int64_t row = 0; row < matrix.rows; ++row) variance += (at(row) - mean) * (at(row) - mean) / rows;
    result.mean.push_back(static_cast<float>(mean));
    result.variance.push_back(static_cast<float>(variance));
  }
  return result;
}

Array doubles(const std::vector<float>& values) { return {values.begin(), values.end()}; }

}  // namespace

TEST_CASE("lane_sum: every length around the number of lanes") {
  for (int64_t count : {0, 1, 15, 16, 17, 31, 33, 100}) {
    CHECK(lane_sum<double>(count, [](int64_t i) { return static_cast<double>(i); }) == count * (count - 1) / 2.0);
  }
}

TEST_CASE("column sums: a stack of matrices, two sums at once, any number of blocks") {
  for (const RowBlocks matrix : {RowBlocks{1, 1}, RowBlocks{7, 3, 5}, RowBlocks{513, 5, 2}, RowBlocks{131, 300, 3},
                                 RowBlocks{20000, 1, 2}, RowBlocks{0, 4}}) {
    const int64_t columns = matrix.columns, elements = matrix.outer * matrix.rows * columns;
    const Array x = random_array(elements, -1, 1, 0);
    Array expected(static_cast<size_t>(matrix.outer * 2 * columns)), sums = expected;
    for (int64_t i = 0; i < elements; ++i) {
      const int64_t outer = i / (matrix.rows * columns);
      const double value = x[static_cast<size_t>(i)];
      expected[static_cast<size_t>(outer * 2 * columns + i % columns)] += value;
      expected[static_cast<size_t>((outer * 2 + 1) * columns + i % columns)] += value * value;
    }
    Array workspace(column_sums_workspace<double>(matrix, 2) / sizeof(double));
    const auto add_rows = [&](int64_t first, int64_t last, double* partial) {
      for (int64_t i = first * columns; i < last * columns; ++i) {
        partial[i % columns] += x[static_cast<size_t>(i)];
        partial[columns + i % columns] += x[static_cast<size_t>(i)] * x[static_cast<size_t>(i)];
      }
    };
    column_sums<double>(matrix, 2, workspace.data(), add_rows,
                        [&](int64_t index, double sum) { sums[static_cast<size_t>(index)] = sum; });
    CHECK(relative_error(sums, expected) <= 1e-13);
  }
}

TEST_CASE("column moments: values far from zero, an outlier in front, sizes around a block's") {
  set_threads(1);
  for (const int64_t rows : {2, 63, 64, 65, 511, 512, 513, 3000}) {
    for (const int64_t columns : {1, 3, 16, 300}) {
      const RowBlocks matrix{rows, columns};
      std::vector<float> x = floats(rows * columns, 1000 - std::sqrt(3), 1000 + std::sqrt(3));  // mean 1e3, deviation 1
      if (rows > 1000) std::fill_n(x.begin(), columns, 0.0F);  // no shift taken from a first row would help
      const Moments expected = naive_moments(x, matrix), actual = moments_of(x, matrix);
      // Half a unit in the last place of the mean; the variance is a sum of rounded squares.
      CHECK(relative_error(doubles(actual.mean), doubles(expected.mean)) <= 1e-7);
      CHECK(relative_error(doubles(actual.variance), doubles(expected.variance)) <= 2e-6);
      set_threads(3);
      const Moments threaded = moments_of(x, matrix);
      CHECK(threaded.mean == actual.mean);
      CHECK(threaded.variance == actual.variance);
      set_threads(1);
    }
  }
}

TEST_CASE("running statistics move as PyTorch's, with the unbiased variance") {
  const double mean = 3, variance = 8;
  double running_mean = 1, running_variance = 2;
  move_running_statistics(&mean, &variance, 5, 1, 0.25, &running_mean, &running_variance);
  CHECK(running_mean == 0.75 * 1 + 0.25 * 3);
  CHECK(running_variance == 0.75 * 2 + 0.25 * 8 * 5 / 4);
}

}  // namespace parabola::column_stats_test
