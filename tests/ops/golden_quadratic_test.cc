// Dense and quadratic ops against PyTorch. PyTorch's factors have row c * rank + j for rank j of output c.
#include <doctest/doctest.h>

#include "engine/ops/conv2d/conv2d.h"
#include "engine/ops/permute.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d.h"
#include "engine/ops/quadratic_linear.h"
#include "engine/ops/view.h"
#include "engine/tape/tape.h"
#include "tests/ops/golden.h"

using namespace parabola;
using namespace parabola::test;

TEST_CASE("golden: conv2d with stride, padding, dilation and groups") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    const GoldenCase golden("conv2d", dtype, true);
    const Tensor x = golden.leaf("input"), weight = golden.leaf("weight"), bias = golden.leaf("bias");
    Tape tape;
    const Tensor y = conv2d(x, weight, bias, {.stride = 2, .padding = 1, .dilation = 2, .groups = 2});
    golden.check_gradients(y, {{"input", x}, {"weight", weight}, {"bias", bias}});
  }
}

TEST_CASE("golden: quadratic_linear of rank 2") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    const GoldenCase golden("quadratic_linear", dtype);
    const Tensor x = golden.leaf("input"), weight = golden.leaf("weight"), bias = golden.leaf("bias");
    const Tensor a = golden.leaf("a"), b = golden.leaf("b");
    const int64_t K = weight.shape()[0], C = weight.shape()[1], J = a.shape()[0] / K;
    Tape tape;
    const auto factors = [&](const Tensor& t) { return permute(reshape(t, {K, J, C}), {1, 0, 2}); };
    const Tensor y = quadratic_linear(x, weight, bias, factors(a), factors(b), golden.get("scale").item());
    golden.check_gradients(y, {{"input", x}, {"weight", weight}, {"bias", bias}, {"a", a}, {"b", b}});
  }
}

TEST_CASE("golden: quadratic_conv2d of rank 2 with stride 2") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    const GoldenCase golden("quadratic_conv2d", dtype, true);
    const Tensor x = golden.leaf("input"), weight = golden.leaf("weight"), bias = golden.leaf("bias");
    const Tensor a = golden.leaf("a"), b = golden.leaf("b");
    const int64_t K = weight.shape()[0], C = weight.shape()[3], J = a.shape()[0] / K;
    const ConvAttributes conv{.stride = 2, .padding = 1};
    Tape tape;
    const auto factors = [&](const Tensor& t) { return permute(reshape(t, {K, J, 3, 3, C}), {1, 0, 2, 3, 4}); };
    const Tensor y =
        quadratic_conv2d(x, weight, bias, factors(a), factors(b), {conv, conv, golden.get("scale").item()});
    golden.check_gradients(y, {{"input", x}, {"weight", weight}, {"bias", bias}, {"a", a}, {"b", b}});
  }
}
