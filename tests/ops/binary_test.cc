#include "engine/ops/binary.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "engine/core/error.h"
#include "tests/ops/harness.h"

namespace parabola::binary_test {

using namespace test;

namespace {

// NumPy's rule, one index at a time.
Array broadcast_reference(const Array& a, const Shape& shape_a, const Array& b, const Shape& shape_b,
                          const std::function<double(double, double)>& f) {
  const Shape out = broadcast(shape_a, shape_b, "test");
  Array result;
  for (int64_t i = 0; i < out.elements(); ++i) {
    const auto pick = [&](const Array& values, const Shape& shape) {
      int64_t rest = i, stride = 1, at = 0;
      for (int k = 1; k <= out.rank(); ++k) {
        const int64_t index = rest % out[out.rank() - k];
        rest /= out[out.rank() - k];
        if (k > shape.rank()) continue;
        if (shape[shape.rank() - k] > 1) at += index * stride;
        stride *= shape[shape.rank() - k];
      }
      return values[static_cast<size_t>(at)];
    };
    result.push_back(f(pick(a, shape_a), pick(b, shape_b)));
  }
  return result;
}

struct Operation {
  const OpDef* op;
  std::function<double(double, double)> f;
};
const std::vector<Operation> operations = {{&add_op, [](double a, double b) { return a + b; }},
                                           {&subtract_op, [](double a, double b) { return a - b; }},
                                           {&multiply_op, [](double a, double b) { return a * b; }},
                                           {&divide_op, [](double a, double b) { return a / b; }}};

void check_binary(const std::string& name, const Shape& a, const Shape& b, bool frozen_b = false) {
  for (const Operation& operation : operations) {
    check_op(
        {.name = name,
         .op = operation.op,
         // No result near zero, so that the errors of the 16-bit types are relative.
         .inputs = {{.shape = a, .low = 0.5, .high = 1.5}, {.shape = b, .low = 2, .high = 4, .gradient = !frozen_b}},
         .reference =
             [&](const std::vector<Array>& in) {
               return std::vector<Array>{broadcast_reference(in[0], a, in[1], b, operation.f)};
             },
         .max_differences = 12});
  }
}

}  // namespace

TEST_CASE("add, subtract, multiply, divide: the same shape") {
  check_binary("scalars", {}, {});
  check_binary("a prime", {3, 7}, {3, 7});
  check_binary("second operand frozen", {5, 3}, {5, 3}, true);
}

TEST_CASE("add, subtract, multiply, divide: broadcasting") {
  check_binary("suffix", {2, 3, 5}, {5});
  check_binary("suffix with a leading 1", {2, 5}, {1, 5});
  check_binary("suffix of two axes, first operand the smaller one", {3, 5}, {2, 3, 5});
  check_binary("scalar", {4, 3}, {});
  check_binary("a last axis of 1", {3, 4, 1}, {3, 4, 5});
  check_binary("axes in between", {2, 3, 4, 5}, {2, 1, 1, 5});
  check_binary("every second axis", {2, 3, 2, 3, 2, 2}, {2, 1, 2, 1, 2, 1});
  check_binary("both are repeated", {4, 1, 3}, {5, 1});
  check_binary("both are repeated, the second frozen", {4, 1, 3}, {5, 1}, true);
  check_binary("the same elements, another rank", {7}, {1, 7});
}

TEST_CASE("add, subtract, multiply, divide: more than one task") {
  check_binary("the same shape", {17, 1031}, {17, 1031});
  check_binary("rows that end within a task", {1031, 17}, {17});
  check_binary("one value for every long row", {5, 9001}, {5, 1});
  check_binary("one value for rows here and there", {3, 2, 41}, {2, 1});
  check_binary("one value for rows, in the first operand", {3, 1}, {3, 41});
}

TEST_CASE("operators; an operand used twice") {
  const Tensor a = Tensor::from(std::vector<float>{1, 2}, {2}), b = Tensor::from(std::vector<float>{3, 5}, {2});
  CHECK((a + b).to_vector<float>() == std::vector<float>{4, 7});
  CHECK((a - b).to_vector<float>() == std::vector<float>{-2, -3});
  CHECK((a * a).to_vector<float>() == std::vector<float>{1, 4});
  CHECK((b / a).to_vector<float>() == std::vector<float>{3, 2.5});
  CHECK((b / b).to_vector<float>() == std::vector<float>{1, 1});
}

TEST_CASE("binary ops say what does not fit") {
  const Tensor a = Tensor::full({2, 3}, 1), b = Tensor::full({4}, 1);
  CHECK_THROWS_WITH_AS(a + b,
                       "[add] shapes do not broadcast: got [2, 3] and [4], expected trailing sizes that are equal or 1",
                       ShapeError);
  CHECK_THROWS_WITH_AS(a * Tensor::full({3}, 1, DType::f64), "[multiply] got f32 and f64, expected one dtype",
                       DTypeError);
  const Tensor labels = Tensor::from(std::vector<int32_t>{1}, {1});
  CHECK_THROWS_WITH_AS(labels - labels, "[subtract] got dtype i32, expected a floating one", DTypeError);
}

}  // namespace parabola::binary_test
