// Dense and quadratic ops against PyTorch. PyTorch's factors have row c * rank + j for rank j of output c.
#include <doctest/doctest.h>

#include <algorithm>

#include "engine/ops/conv2d/conv2d.h"
#include "engine/ops/permute.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d.h"
#include "engine/ops/quadratic_linear.h"
#include "engine/ops/view.h"
#include "engine/tape/tape.h"
#include "tests/ops/golden.h"

namespace parabola::golden_quadratic_test {

using namespace test;

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

// The op with the weights that a type has. PyTorch's matrices of type 1 have row k n + i for row i of output k.
template <class Op>
void check_types(const std::string& name, Op&& op) {
  for (const char* type : {"type1", "type2", "type3", "type4", "type12", "type24", "type24_shared"})
    for (const DType dtype : {DType::f64, DType::f32}) {
      const std::string what = type;
      const GoldenCase golden(name + "_" + what, dtype, true);
      std::vector<std::pair<std::string, Tensor>> leaves{{"input", golden.leaf("input")}};
      const auto leaf = [&](const char* part, std::initializer_list<const char*> types) {
        if (std::find(types.begin(), types.end(), what) == types.end()) return Tensor();
        leaves.emplace_back(part, golden.leaf(part));
        return leaves.back().second;
      };
      const Tensor a = leaf("a", {"type3", "type4", "type24", "type24_shared"});
      const Tensor b = leaf("b", {"type1", "type4", "type12", "type24", "type24_shared"});
      const Tensor square = leaf("square", {"type2", "type12", "type24"});
      Tape tape;
      const auto factors = [&](const Tensor& t) {  // [J, K, ...] from rows k J + j, for 4 outputs
        if (!t) return t;
        const Shape& s = t.shape();
        return s.rank() == 2 ? permute(reshape(t, {4, s[0] / 4, s[1]}), {1, 0, 2})
                             : permute(reshape(t, {4, s[0] / 4, s[1], s[2], s[3]}), {1, 0, 2, 3, 4});
      };
      golden.check_gradients(
          op(leaves[0].second, QuadraticTerm{factors(a), factors(b), what == "type24_shared" ? b : square}), leaves);
    }
}

TEST_CASE("golden: quadratic_linear of each type") {
  check_types("quadratic_linear",
              [](const Tensor& x, const QuadraticTerm& term) { return quadratic_linear(x, {}, {}, term); });
}

TEST_CASE("golden: quadratic_conv2d of each type, with stride, padding, dilation and groups") {
  const ConvAttributes conv{.stride = 2, .padding = 1, .dilation = 2, .groups = 2};
  check_types("quadratic_conv2d", [&](const Tensor& x, const QuadraticTerm& term) {
    return quadratic_conv2d(x, {}, {}, term, {{}, conv});
  });
}

}  // namespace parabola::golden_quadratic_test
