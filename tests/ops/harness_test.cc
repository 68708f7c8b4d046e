// The harness itself: it must catch a wrong gradient. y = x^2, right and with planted mistakes.
#include "tests/ops/harness.h"

#include <doctest/doctest.h>

#include "engine/ops/elementwise.h"

namespace parabola::harness_test {

using namespace test;

namespace {

enum class Mistake : uint8_t { none, factor, accumulation, one_element };

template <Mistake mistake>
constexpr OpDef squared_op() {
  return {.name = "test_squared",
          .layout = same_as_input,
          .needs = [](const Signature&) { return Needs{.inputs = 1}; },
          .cpu = {[](const ForwardArgs& a) {
                    dispatch_float(a.inputs[0].dtype, "test_squared", [&]<class T>() {
                      for (int64_t i = 0; i < a.inputs[0].shape.elements(); ++i) {
                        a.outputs[0].data<T>()[i] = a.inputs[0].data<T>()[i] * a.inputs[0].data<T>()[i];
                      }
                    });
                  },
                  [](const BackwardArgs& a) {
                    dispatch_float(a.inputs[0].dtype, "test_squared", [&]<class T>() {
                      for (int64_t i = 0; i < a.inputs[0].shape.elements(); ++i) {
                        T factor = mistake == Mistake::factor ? T(2.001) : T(2);
                        if (mistake == Mistake::one_element && i == 30) factor = 0;
                        const T d = factor * a.inputs[0].data<T>()[i] * a.output_gradients[0].data<T>()[i];
                        T& dx = a.input_gradients[0].data<T>()[i];
                        dx = a.accumulates(0) && mistake != Mistake::accumulation ? dx + d : d;
                      }
                    });
                  }}};
}

template <Mistake mistake>
double error_with() {
  static const OpDef op = squared_op<mistake>();
  return worst_gradient_error({.name = "planted", .op = &op, .inputs = {{.shape = {5, 7}}}});
}

}  // namespace

TEST_CASE("the harness accepts a right gradient and catches wrong ones") {
  CHECK(error_with<Mistake::none>() < 1e-9);
  CHECK(error_with<Mistake::factor>() > 4e-4);       // 0.001 / 2.001
  CHECK(error_with<Mistake::accumulation>() > 0.4);  // half of the sum is lost
  CHECK(error_with<Mistake::one_element>() > 1e-2);
}

}  // namespace parabola::harness_test
