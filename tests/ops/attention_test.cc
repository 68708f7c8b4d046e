#include <doctest/doctest.h>

#include <cmath>

#include "engine/core/error.h"
#include "engine/ops/attention/scaled_dot_product_attention.h"
#include "engine/ops/reduce.h"
#include "engine/tape/tape.h"
#include "tests/ops/golden.h"
#include "tests/ops/harness.h"

namespace parabola::attention_test {

using namespace test;

namespace {

// Of `count` attentions with L queries and S keys of D values.
struct Sizes {
  int64_t count, L, S, D, E;
};

Array reference(const std::vector<Array>& in, const Sizes& z, bool causal) {
  const auto at = [](const Array& matrices, int64_t row, int64_t column, int64_t width) {
    return matrices[static_cast<size_t>(row * width + column)];
  };
  Array y;
  for (int64_t n = 0; n < z.count; ++n)
    for (int64_t i = 0; i < z.L; ++i) {
      Array weights(static_cast<size_t>(z.S));
      double sum = 0;
      for (int64_t j = 0; j < z.S; ++j) {
        if (causal && j > i) continue;
        double score = 0;
        for (int64_t d = 0; d < z.D; ++d) score += at(in[0], n * z.L + i, d, z.D) * at(in[1], n * z.S + j, d, z.D);
        sum += weights[static_cast<size_t>(j)] = std::exp(score / std::sqrt(static_cast<double>(z.D)));
      }
      for (int64_t e = 0; e < z.E; ++e) {
        double value = 0;
        for (int64_t j = 0; j < z.S; ++j)
          value += weights[static_cast<size_t>(j)] / sum * at(in[2], n * z.S + j, e, z.E);
        y.push_back(value);
      }
    }
  return y;
}

void check_attention(const char* name, const Sizes& z, uint32_t wanted = 7) {
  for (const bool causal : {false, true})
    check_op({.name = name,
              .op = &scaled_dot_product_attention_op,
              .inputs = {{.shape = {z.count, z.L, z.D}, .low = -2, .high = 2, .gradient = (wanted & 1) != 0},
                         {.shape = {z.count, z.S, z.D}, .low = -2, .high = 2, .gradient = (wanted & 2) != 0},
                         {.shape = {z.count, z.S, z.E}, .gradient = (wanted & 4) != 0}},
              .attributes = AttentionAttributes{causal},
              .reference = [&](const std::vector<Array>& in) { return std::vector<Array>{reference(in, z, causal)}; },
              .max_differences = 12});
}

}  // namespace

TEST_CASE("scaled_dot_product_attention") {
  check_attention("as many keys as queries", {3, 5, 5, 4, 4});
  check_attention("more keys, narrower values", {2, 4, 7, 5, 3});
  check_attention("fewer keys, wider values", {2, 7, 3, 2, 5});
  check_attention("one query", {2, 1, 6, 3, 3});
  check_attention("one key", {2, 5, 1, 3, 2});
  check_attention("one of everything", {1, 1, 1, 1, 1});
  check_attention("none", {0, 3, 3, 2, 2});
  check_attention("no queries", {2, 0, 3, 2, 2});
  check_attention("queries only", {2, 4, 5, 3, 2}, 1);
  check_attention("keys only", {2, 4, 5, 3, 2}, 2);
  check_attention("values only", {2, 4, 5, 3, 2}, 4);
  check_attention("more than one tile of queries", {2, 131, 37, 5, 3});
}

TEST_CASE("scaled_dot_product_attention takes any leading axes") {
  const Tensor q = Tensor::full({2, 3, 4, 5}, 1), v = Tensor::full({2, 3, 6, 2}, 3);
  const Tensor y = scaled_dot_product_attention(q, Tensor::full({2, 3, 6, 5}, 1), v);
  CHECK(y.shape() == Shape{2, 3, 4, 2});
  CHECK(y.at(0) == doctest::Approx(3));
  CHECK(
      scaled_dot_product_attention(Tensor::full({4, 5}, 1), Tensor::full({6, 5}, 1), Tensor::full({6, 2}, 1)).shape() ==
      Shape{4, 2});
}

TEST_CASE("scaled_dot_product_attention with scores whose exp would overflow") {
  const Tensor q = Tensor::from(std::vector<float>{400, -400}, {2, 1});
  const Tensor k = Tensor::from(std::vector<float>{1, 2}, {2, 1}), v = Tensor::from(std::vector<float>{5, 7}, {2, 1});
  for (const Tensor* x : {&q, &k, &v}) x->set_requires_gradient(true);
  Tape tape;
  const Tensor y = scaled_dot_product_attention(q, k, v);
  CHECK(y.to_vector<float>() == std::vector<float>{7, 5});
  tape.backward(sum(y));
  CHECK(q.gradient().to_vector<float>() == std::vector<float>{0, 0});
  CHECK(v.gradient().to_vector<float>() == std::vector<float>{1, 1});
}

TEST_CASE("golden: scaled_dot_product_attention") {
  for (const DType dtype : {DType::f64, DType::f32})
    for (const char* name :
         {"attention", "attention_causal", "attention_causal_more_keys", "attention_causal_fewer_keys"}) {
      const GoldenCase golden(name, dtype);
      const Tensor q = golden.leaf("q"), k = golden.leaf("k"), v = golden.leaf("v");
      Tape tape;
      golden.check_gradients(scaled_dot_product_attention(q, k, v, std::string(name) != "attention"),
                             {{"q", q}, {"k", k}, {"v", v}});
    }
}

TEST_CASE("scaled_dot_product_attention says what does not fit") {
  const auto attend = [](const Shape& q, const Shape& k, const Shape& v) {
    return scaled_dot_product_attention(Tensor::full(q, 1), Tensor::full(k, 1), Tensor::full(v, 1));
  };
  CHECK_THROWS_WITH_AS(attend({5}, {5}, {5}),
                       "[scaled_dot_product_attention] queries: got [5], expected [..., L, D] with D of at least 1",
                       ShapeError);
  CHECK_THROWS_WITH_AS(
      attend({2, 3, 4}, {2, 3, 5}, {2, 3, 4}),
      "[scaled_dot_product_attention] keys: got [2, 3, 5] for queries of shape [2, 3, 4], expected the "
      "same but for the number of keys, at least one",
      ShapeError);
  CHECK_THROWS_WITH_AS(attend({2, 3, 4}, {2, 5, 4}, {2, 6, 4}),
                       "[scaled_dot_product_attention] values: got [2, 6, 4] for keys of shape [2, 5, 4], expected the "
                       "same but for the last axis",
                       ShapeError);
}

}  // namespace parabola::attention_test
