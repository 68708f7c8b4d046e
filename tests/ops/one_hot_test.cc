#include "engine/ops/one_hot.h"

#include <cmath>

#include "engine/core/error.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

namespace parabola::one_hot_test {

using namespace test;

TEST_CASE("one_hot") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const auto check = [&](const char* name, const Shape& shape, int classes) {
      check_op({.name = name,
                .op = &one_hot_op,
                .inputs = {{.shape = shape, .classes = classes}},
                .attributes = OneHotAttributes{classes, dtype},
                .reference = [&](const std::vector<Array>& in) {
                  Array y;
                  for (const double label : in[0])
                    for (int c = 0; c < classes; ++c) y.push_back(label == c ? 1 : 0);
                  return std::vector<Array>{y};
                }});
    };
    check("a scalar", {}, 4);
    check("a vector", {9}, 5);
    check("a map of labels", {2, 3, 5}, 7);
    check("one class", {4}, 1);
    check("no labels", {0}, 3);
  }
}

TEST_CASE("one_hot in 16 bits, and labels that are none") {
  const Tensor labels = Tensor::from(std::vector<int32_t>{2, 0}, {2}).to(test_device(), Category::inputs);
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const Tensor y = one_hot(labels, 3, dtype).on_cpu();
    CHECK(y.dtype() == dtype);
    for (int64_t i = 0; i < 6; ++i) CHECK(y.at(i) == (i == 2 || i == 3 ? 1 : 0));
  }
  if (test_device() == Device{}) {
    CHECK_THROWS_WITH_AS(one_hot(labels, 2), "[one_hot] label out of range: got 2 in row 0, expected 0 to 1",
                         UsageError);
  } else {
    const Tensor y = one_hot(labels, 2).on_cpu();
    CHECK((std::isnan(y.at(0)) && std::isnan(y.at(1)) && y.at(2) == 1 && y.at(3) == 0));
  }
}

TEST_CASE("one_hot says what does not fit") {
  CHECK_THROWS_WITH_AS(one_hot(Tensor::full({2}, 1), 3), "[one_hot] got labels of dtype f32, expected i32", DTypeError);
  const Tensor labels = Tensor::from(std::vector<int32_t>{0}, {1});
  CHECK_THROWS_WITH_AS(one_hot(labels, 0), "[one_hot] got 0 classes, expected at least one", ShapeError);
  CHECK_THROWS_WITH_AS(one_hot(labels, 3, DType::u8), "[one_hot] got dtype u8, expected a floating one", DTypeError);
}

}  // namespace parabola::one_hot_test
