#include "engine/ops/dropout.h"

#include <doctest/doctest.h>

#include <cmath>

#include "engine/core/error.h"
#include "engine/ops/binary.h"
#include "engine/ops/reduce.h"
#include "engine/tape/tape.h"
#include "tests/ops/harness.h"

namespace parabola::dropout_test {

using namespace test;

namespace {

// The key of the harness's first node; draw i is word i of its sequence.
void check_drop(const std::string& name, const OpDef& op, const Shape& shape, double p) {
  const int64_t draws = &op == &drop_path_op ? shape[0] : shape.elements();
  check_op({.name = name,
            .op = &op,
            .inputs = {{.shape = shape}},
            .attributes = DropAttributes{p},
            .reference = [&](const std::vector<Array>& in) {
              Random random({.seed = 7, .stream = Stream::node, .step = 3, .item = 0});
              Array y = in[0];
              const size_t unit = y.size() / static_cast<size_t>(draws);
              for (size_t draw = 0; draw < static_cast<size_t>(draws); ++draw) {
                const bool keep = static_cast<double>(random.uniform()) >= p;
                for (size_t i = draw * unit; i < (draw + 1) * unit; ++i) y[i] = keep ? y[i] / (1 - p) : 0;
              }
              return std::vector<Array>{y};
            }});
}

}  // namespace

TEST_CASE("dropout") {
  check_drop("a prime", dropout_op, {3, 5, 7}, 0.25);
  check_drop("more than one task", dropout_op, {5, 4001}, 0.5);
}

TEST_CASE("drop_path") {
  check_drop("samples of several elements", drop_path_op, {13, 3, 2}, 0.5);
  check_drop("samples of one element", drop_path_op, {9}, 0.25);
  check_drop("more than one task", drop_path_op, {9, 6007}, 0.5);
}

TEST_CASE("dropout: the gradient is masked in place") {
  const Tensor x = Tensor::full({100, 3}, 1);
  x.set_requires_gradient(true);
  for (Tensor (*drop)(const Tensor&, double) : {dropout, drop_path}) {
    x.zero_gradient();
    Tape tape({.seed = 1});
    const Tensor y = drop(add(x, x), 0.25);
    const std::vector<float> masked = y.to_vector<float>();
    tape.backward(sum(y));
    CHECK(x.gradient().to_vector<float>() == masked);
  }
}

TEST_CASE("dropout: the rate, a new mask for every step and node, none for p = 0") {
  const Tensor x = Tensor::full({100, 100}, 1);
  const auto masked = [&](uint64_t step) {
    Tape tape({.seed = 1, .step = step});
    return dropout(x, 0.25).to_vector<float>();
  };
  const std::vector<float> first = masked(0);
  const auto dropped = std::count(first.begin(), first.end(), 0.0F);
  // Five standard deviations of the binomial distribution: sqrt(1e4 * 0.25 * 0.75) = 43.
  CHECK(std::abs(static_cast<double>(dropped) - 2500) < 5 * 43);
  CHECK(masked(0) == first);
  CHECK(masked(1) != first);
  Tape tape({.seed = 1});
  CHECK(dropout(x, 0.25).to_vector<float>() == first);
  CHECK(dropout(x, 0.25).to_vector<float>() != first);
  CHECK(dropout(x, 0).data<float>() == x.data<float>());
  CHECK(drop_path(x, 0).data<float>() == x.data<float>());
}

TEST_CASE("drop_path drops whole samples") {
  const Tensor x = Tensor::full({64, 3}, 1);
  Tape tape({.seed = 1});
  const Tensor y = drop_path(x, 0.5);
  int dropped = 0;
  for (int64_t sample = 0; sample < 64; ++sample) {
    CHECK((y.at(3 * sample) == 0 || y.at(3 * sample) == 2));
    CHECK(y.at(3 * sample + 1) == y.at(3 * sample));
    CHECK(y.at(3 * sample + 2) == y.at(3 * sample));
    dropped += y.at(3 * sample) == 0;
  }
  CHECK(dropped > 12);  // five standard deviations from 32
  CHECK(dropped < 52);
}

TEST_CASE("dropout says what does not fit") {
  const Tensor x = Tensor::full({2, 3}, 1);
  CHECK_THROWS_WITH_AS(dropout(x, 1), "[dropout] got p = 1, expected 0 <= p < 1", UsageError);
  CHECK_THROWS_AS(dropout(x, -0.1), UsageError);
  CHECK_THROWS_AS(drop_path(x, std::nan("")), UsageError);
  CHECK_THROWS_WITH_AS(drop_path(Tensor::full({}, 1), 0.5), "[drop_path] got a scalar, expected samples on axis 0",
                       ShapeError);
}

}  // namespace parabola::dropout_test
