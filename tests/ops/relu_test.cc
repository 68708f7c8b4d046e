#include "engine/ops/relu.h"

#include <doctest/doctest.h>

#include "tests/ops/harness.h"

namespace parabola::relu_test {

using namespace test;

TEST_CASE("relu") {
  check_op({.name = "away from the kink",
            .op = &relu_op,
            .inputs = {{.shape = {3, 5, 7}, .kink = 0.01}},
            .reference = [](const std::vector<Array>& in) {
              Array y = in[0];
              for (double& v : y) v = v > 0 ? v : 0;
              return std::vector<Array>{y};
            }});
}

}  // namespace parabola::relu_test
