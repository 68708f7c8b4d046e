#include "engine/ops/cross_entropy.h"

#include <cmath>

#include "engine/core/error.h"
#include "engine/tape/tape.h"
#include "tests/ops/golden.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

namespace parabola::cross_entropy_test {

using namespace test;

namespace {

// With labels, or with a probability for each class.
void check_cross_entropy(const std::string& name, int64_t rows, int64_t classes, bool soft = false,
                         double smoothing = 0, bool targets_alone = false) {
  const auto K = static_cast<double>(classes);
  const Input labels{.shape = {rows}, .classes = static_cast<int>(classes)},
      probabilities{.shape = {rows, classes}, .low = 0, .high = 1};
  check_op({.name = name,
            .op = &cross_entropy_op,
            .inputs = {{.shape = {rows, classes}, .low = -5, .high = 5, .gradient = !targets_alone},
                       soft ? probabilities : labels},
            .attributes = CrossEntropyAttributes{smoothing},
            .reference =
                [&](const std::vector<Array>& in) {
                  double loss = 0;
                  for (int64_t row = 0; row < rows; ++row) {
                    const double* z = in[0].data() + row * classes;
                    double sum = 0;
                    for (int64_t k = 0; k < classes; ++k) sum += std::exp(z[k]);
                    for (int64_t k = 0; k < classes; ++k) {
                      const double t = soft ? in[1][static_cast<size_t>(row * classes + k)]
                                            : in[1][static_cast<size_t>(row)] == static_cast<double>(k);
                      loss -= ((1 - smoothing) * t + smoothing / K) * (z[k] - std::log(sum));
                    }
                  }
                  return std::vector<Array>{{loss / static_cast<double>(rows)}};
                },
            .max_differences = 30});
}

Tensor labels(const std::vector<int32_t>& values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())});
}

}  // namespace

TEST_CASE("cross_entropy") {
  check_cross_entropy("a batch", 5, 7);
  check_cross_entropy("one row", 1, 10);
  check_cross_entropy("more than one task", 37, 1001);
  check_cross_entropy("labels, smoothed", 5, 7, false, 0.1);
  check_cross_entropy("probabilities", 5, 37, true);
  check_cross_entropy("probabilities, smoothed", 4, 7, true, 0.25);
  check_cross_entropy("the gradient of the probabilities alone", 4, 7, true, 0.25, true);
}

TEST_CASE("golden: cross_entropy of smoothed labels and of probabilities") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    {
      const GoldenCase golden("cross_entropy_smoothed", dtype);
      const Tensor logits = golden.leaf("input");
      Tape tape;
      golden.check_gradients(cross_entropy(logits, golden.get("labels"), {.label_smoothing = 0.1}),
                             {{"input", logits}});
    }
    const GoldenCase golden("cross_entropy_soft", dtype);
    const Tensor logits = golden.leaf("input"), targets = golden.leaf("targets");
    Tape tape;
    golden.check_gradients(cross_entropy(logits, targets, {.label_smoothing = 0.1}),
                           {{"input", logits}, {"targets", targets}});
  }
}

TEST_CASE("cross_entropy where a class is ruled out: a logit of minus infinity costs nothing unless it is the target") {
  const Tensor x = Tensor::from(std::vector<float>{0, -INFINITY, 0}, {1, 3});
  CHECK(cross_entropy(x, labels({0})).item() == doctest::Approx(std::log(2)));
  CHECK(cross_entropy(x, Tensor::from(std::vector<float>{0.5, 0, 0.5}, {1, 3})).item() == doctest::Approx(std::log(2)));
  CHECK(cross_entropy(x, labels({1})).item() == INFINITY);
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
  CHECK_THROWS_WITH_AS(cross_entropy(x, Tensor::full({2}, 1)),
                       "[cross_entropy] probabilities do not fit logits of shape [2, 3]: got [2], expected [2, 3]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(cross_entropy(x, Tensor::full({2, 3}, 1, DType::f64)),
                       "[cross_entropy] got targets of dtype f64, expected i32 for labels or f32 for probabilities",
                       DTypeError);
  CHECK_THROWS_WITH_AS(cross_entropy(x, labels({0, 1}), {.label_smoothing = 1.5}),
                       "[cross_entropy] got label_smoothing 1.5, expected 0 to 1", UsageError);
  CHECK_THROWS_WITH_AS(cross_entropy(labels({1}), labels({1})),
                       "[cross_entropy] got logits of shape [1], expected [N, K], neither of them 0", ShapeError);
}

}  // namespace parabola::cross_entropy_test
