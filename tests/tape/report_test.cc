// A small step's report, by hand: what stays, what goes, and the reason given.
#include "engine/tape/report.h"

#include "engine/core/error.h"
#include "engine/ops/linear.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/ops/view.h"
#include "tests/support/test.h"

namespace parabola::report_test {
namespace {

// linear -> relu -> linear -> reshape -> sum, in scopes; the first layer's result is the relu's only input.
Tensor net(const Tensor& x, const Tensor& w1, const Tensor& w2) {
  const Tensor hidden = [&] {
    const Scope scope("first");
    return relu(linear(x, w1));
  }();
  const Scope scope("second");
  return sum(reshape(linear(hidden, w2), {8}));
}

Tensor weight(const Shape& shape) {
  const Tensor w = Tensor::full(shape, 0.5, DType::f32, Category::parameters);
  w.set_requires_gradient(true);
  return w;
}

const StepReport::Row& row(const StepReport& step, std::string_view op, size_t nth = 0) {
  for (const StepReport::Row& row : step.rows)
    if (row.op == op && nth-- == 0) return row;
  FAIL("no such op");
  return step.rows[0];
}

}  // namespace

TEST_CASE("report: fates, bytes and reasons of a step under each policy") {
  const Tensor x = Tensor::full({4, 3}, 1, DType::f32, Category::inputs), w1 = weight({5, 3}), w2 = weight({2, 5});
  for (const Checkpoint checkpoint : {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks}) {
    CAPTURE(name_of(checkpoint));
    Tape tape({.checkpoint = checkpoint});
    const Tensor loss = net(x, w1, w2);
    const StepReport step(tape);
    REQUIRE(step.rows.size() == 5);
    CHECK(step.rows[0].scope == "first");
    CHECK(step.rows[4].scope == "second");
    CHECK(step.rows[0].inputs[0].category == Category::inputs);
    CHECK(step.rows[0].inputs[1].trains);
    CHECK(step.rows[2].inputs[0].node == 1);
    CHECK(step.rows[2].shape == Shape{4, 2});
    CHECK(step.rows[3].fate == Fate::view);
    CHECK(step.rows[4].fate == Fate::saved);
    CHECK(step.rows[4].why == "the program holds it");
    // Sum's backward reads nothing; but under `blocks` the loss could be asked for again, and with it what made it.
    CHECK(step.rows[2].fate == (checkpoint == Checkpoint::blocks ? Fate::recomputed : Fate::freed));
    CHECK(step.rows[2].saved_bytes == 0);
    const StepReport::Row& relu_row = row(step, "relu");
    if (checkpoint == Checkpoint::none) {
      CHECK(relu_row.fate == Fate::saved);
      CHECK(relu_row.saved_bytes == 4 * 5 * sizeof(float));
      CHECK(relu_row.why == "policy none");
      CHECK(step.replay_flops == 0);
    } else {
      CHECK(relu_row.fate == Fate::recomputed);
      CHECK(relu_row.why == (checkpoint == Checkpoint::blocks ? "policy blocks" : "default of its op"));
      CHECK(step.recomputed_bytes >= 4 * 5 * sizeof(float));
    }
    const std::string text = report(tape);
    CHECK(text.find("relu") != std::string::npos);
    CHECK(text.find("[4, 5]") != std::string::npos);
    tape.backward(loss);
    CHECK_THROWS_AS(StepReport{tape}, UsageError);
  }
}

TEST_CASE("report: an explicit mark is told as such") {
  const Tensor x = Tensor::full({4, 3}, 1, DType::f32, Category::inputs), w = weight({5, 3}), w2 = weight({2, 5});
  Tape tape;
  const Tensor loss = [&] {
    const PolicyScope marked(Policy::save);
    return net(x, w, w2);
  }();
  CHECK(row(StepReport(tape), "relu").why == "marked");
}

}  // namespace parabola::report_test
