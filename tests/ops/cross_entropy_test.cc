#include "engine/ops/cross_entropy.h"

#include <cmath>

#include "engine/core/error.h"
#include "engine/tape/tape.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

using namespace parabola;
using namespace parabola::test;

namespace {

void check_cross_entropy(const std::string& name, int64_t rows, int64_t classes) {
  check_op({.name = name,
            .op = &cross_entropy_op,
            .inputs = {{.shape = {rows, classes}, .low = -5, .high = 5},
                       {.shape = {rows}, .classes = static_cast<int>(classes)}},
            .reference = [&](const std::vector<Array>& in) {
              double loss = 0;
              for (int64_t row = 0; row < rows; ++row) {
                const double* z = in[0].data() + row * classes;
                double sum = 0;
                for (int64_t k = 0; k < classes; ++k) sum += std::exp(z[k]);
                const auto label = static_cast<int64_t>(in[1][static_cast<size_t>(row)]);
                loss += (std::log(sum) - z[label]) / static_cast<double>(rows);
              }
              return std::vector<Array>{{loss}};
            }});
}

Tensor labels(const std::vector<int32_t>& values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())});
}

}  // namespace

TEST_CASE("cross_entropy") {
  check_cross_entropy("a batch", 5, 7);
  check_cross_entropy("one row", 1, 10);
  check_cross_entropy("more than one task", 37, 1001);
}

TEST_CASE("cross_entropy of large logits; one class costs nothing") {
  const auto there = [](const Tensor& t) { return t.to(test_device(), Category::inputs); };
  CHECK(cross_entropy(there(Tensor::full({3, 1}, 7)), there(labels({0, 0, 0}))).item() == 0);
  const Tensor x = there(Tensor::from(std::vector<float>{1000, 0, -1000, 1000}, {2, 2}));
  x.set_requires_gradient(true);
  Tape tape;
  const Tensor loss = cross_entropy(x, there(labels({1, 1})));
  CHECK(loss.item() == 500);
  tape.backward(loss);
  CHECK(x.gradient().to_vector<float>() == std::vector<float>{0.5, -0.5, 0, 0});
}

TEST_CASE("cross_entropy of a label that is no class is NaN on a device, which cannot say so") {
  if (test_device() == Device{}) return;  // there it is an error, see below
  for (const int32_t wrong : {-1, 2}) {
    const Tensor x = Tensor::full({2, 2}, 1, DType::f32, Category::inputs, test_device());
    x.set_requires_gradient(true);
    Tape tape;
    const Tensor loss = cross_entropy(x, labels({1, wrong}).to(test_device(), Category::inputs));
    CHECK(std::isnan(loss.item()));
    tape.backward(loss);
    const std::vector<float> dx = x.gradient().to_vector<float>();
    CHECK(dx[0] == 0.25);
    CHECK(std::isnan(dx[2]));
  }
}

TEST_CASE("cross_entropy says what does not fit") {
  const Tensor x = Tensor::full({2, 3}, 1);
  CHECK_THROWS_WITH_AS(cross_entropy(x, labels({0, 3})),
                       "[cross_entropy] label out of range: got 3 in row 1, expected 0 to 2", UsageError);
  CHECK_THROWS_WITH_AS(cross_entropy(x, labels({-1, 0})),
                       "[cross_entropy] label out of range: got -1 in row 0, expected 0 to 2", UsageError);
  CHECK_THROWS_WITH_AS(cross_entropy(x, labels({0, 1, 2})),
                       "[cross_entropy] labels do not fit logits of shape [2, 3]: got [3], expected [2]", ShapeError);
  CHECK_THROWS_WITH_AS(cross_entropy(x, Tensor::full({2}, 1)), "[cross_entropy] got labels of dtype f32, expected i32",
                       DTypeError);
  CHECK_THROWS_WITH_AS(cross_entropy(labels({1}), labels({1})),
                       "[cross_entropy] got logits of shape [1], expected [N, K], neither of them 0", ShapeError);
}
