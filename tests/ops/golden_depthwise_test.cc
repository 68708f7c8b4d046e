// quadratic_depthwise_conv2d against PyTorch: a frozen-size 7x7 host with 3x3 dilation 3 factors of rank 2.
#include <doctest/doctest.h>

#include "engine/ops/depthwise/quadratic_depthwise_conv2d.h"
#include "engine/ops/permute.h"
#include "engine/ops/view.h"
#include "engine/tape/tape.h"
#include "tests/ops/golden.h"

namespace parabola::golden_depthwise_test {

using namespace test;

TEST_CASE("golden: quadratic_depthwise_conv2d") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    for (const int stride : {1, 2}) {
      const GoldenCase golden(concat("quadratic_depthwise_conv2d_stride", stride), dtype, true);
      const Tensor x = golden.leaf("input"), weight = golden.leaf("weight"), bias = golden.leaf("bias");
      const Tensor a = golden.leaf("a"), b = golden.leaf("b");
      const int64_t C = x.shape()[3], J = a.shape()[0] / C;
      Tape tape;
      // From [C, R, S, 1] and [C J, R, S, 1] as they are read; gradients take the way back.
      const auto factors = [&](const Tensor& t) { return permute(reshape(t, {C, J, 3, 3}), {1, 2, 3, 0}); };
      const Tensor y =
          quadratic_depthwise_conv2d(x, permute(reshape(weight, {C, 7, 7}), {1, 2, 0}), bias, factors(a), factors(b),
                                     {.stride = stride,
                                      .padding = 3,
                                      .quadratic_stride = stride,
                                      .quadratic_padding = 3,
                                      .quadratic_dilation = 3,
                                      .scale = golden.get("scale").item()});
      golden.check_gradients(y, {{"input", x}, {"weight", weight}, {"bias", bias}, {"a", a}, {"b", b}});
    }
  }
}

}  // namespace parabola::golden_depthwise_test
