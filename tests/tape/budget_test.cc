// The memory budget: never exceeded, the same bits, and refused with reasons where it cannot be kept.
#include <cmath>

#include "engine/core/error.h"
#include "engine/ops/batch_norm.h"
#include "engine/ops/relu.h"
#include "engine/tape/executor.h"
#include "engine/tape/solver.h"
#include "tests/support/test.h"
#include "tests/tape/random_net.h"

namespace parabola::budget_test {
namespace {
using namespace test;

constexpr size_t tensor = 8 * sizeof(float);

struct Outcome {
  std::vector<std::vector<float>> gradients;
  double counter = 0;
  bool operator==(const Outcome&) const = default;
};

struct Step {
  Outcome outcome;
  size_t peak = 0;
  double replay_flops = 0;
};

Step run(uint32_t seed, const TapeOptions& options, bool marked = false, bool may_hold = true) {
  Executor::instance().work = {};
  RandomNet net(seed, marked);
  net.holds &= may_hold;
  const size_t before = activation_bytes();
  Memory::of({}).reset_peak();
  Step step;
  {
    Tape tape(options);
    const Tensor loss = net.forward();
    tape.backward(loss);
  }
  net.held.clear();
  CHECK(activation_bytes() == before);
  step.peak = Memory::of({}).peak_activation_bytes() - before;
  step.replay_flops = Executor::instance().work.replay_flops;
  step.outcome.counter = net.counter.item();
  for (const Tensor& parameter : net.leaves) step.outcome.gradients.push_back(values_of(parameter.gradient()));
  return step;
}

// x -> square -> square ... in `length` steps: each value is read by the backward of the next.
Tensor chain(const Tensor& x, int length) {
  Tensor y = x;
  for (int i = 0; i < length; ++i) y = squared(y);
  return sum(y);
}

std::vector<float> gradient_of_chain(const TapeOptions& options, int length, size_t* peak = nullptr) {
  const Tensor x = leaf({0.5F, -1, 0.25F, 1, -0.5F, 0.75F, 1, -1});
  const size_t before = activation_bytes();
  Memory::of({}).reset_peak();
  {
    Tape tape(options);
    const Tensor loss = chain(x, length);
    tape.backward(loss);
  }
  if (peak) *peak = Memory::of({}).peak_activation_bytes() - before;
  CHECK(activation_bytes() == before);
  return values_of(x.gradient());
}

}  // namespace

TEST_CASE("budget: results are evicted before the few bytes of statistics that make their replay cheap") {
  const Tensor x = Tensor::full({64, 32}, 1, DType::f32, Category::inputs), one = Tensor::full({32}, 1),
               zero = Tensor::full({32}, 0), mean = Tensor::full({32}, 0), variance = Tensor::full({32}, 1);
  x.set_requires_gradient(true);
  const size_t before = activation_bytes();
  Tape tape({.memory_budget = before + 5 * x.bytes()});
  Tensor y = x;
  for (int i = 0; i < 8; ++i) y = relu(batch_norm(y, one, zero, mean, variance, {.training = true}));
  int evicted = 0, lost = 0;
  for (const Node& node : tape.nodes()) {
    for (const int value : node.outputs) evicted += !tape.storage_of(value).resident();
    for (const int value : node.auxiliary) lost += !tape.storage_of(value).resident();
  }
  CHECK(evicted >= 8);
  CHECK(lost == 0);
}

TEST_CASE("budget: a chain in ever less memory has the same bits and never more bytes than allowed") {
  constexpr int length = 30;
  size_t most = 0;
  const std::vector<float> expected = gradient_of_chain({.checkpoint = Checkpoint::none}, length, &most);
  REQUIRE(most > length * tensor);
  const size_t base = activation_bytes();
  for (size_t budget = most; budget >= 7 * tensor; budget -= tensor) {
    CAPTURE(budget);
    size_t peak = 0;
    CHECK(gradient_of_chain({.memory_budget = base + budget}, length, &peak) == expected);
    CHECK(peak <= budget);
  }
  CHECK_THROWS_AS(gradient_of_chain({.memory_budget = base + 2 * tensor}, length), MemoryError);
}

TEST_CASE("budget: a budget that does not bind replays nothing") {
  calls = {};
  gradient_of_chain({.memory_budget = 1_MiB}, 10);
  CHECK(calls == Calls{.forward = 10, .backward = 10});
  calls = {};
  gradient_of_chain({.checkpoint = Checkpoint::automatic}, 10);
  CHECK(calls == Calls{.forward = 10, .backward = 10});
}

TEST_CASE("budget: what cannot be kept is refused with the budget, the request and the holders") {
  const Tensor x = leaf({1, 2, 3, 4, 5, 6, 7, 8});
  const size_t before = activation_bytes();
  for (const size_t budget : {size_t{0}, size_t{1}, tensor - 1}) {
    std::string message;
    try {
      Tape tape({.memory_budget = before + budget});
      squared(x);
    } catch (const MemoryError& error) {
      message = error.what();
    }
    CAPTURE(message);
    CHECK(message.starts_with("[test_squared] memory budget: got "));
    CHECK(message.find(" alive and 32 B to come, expected at most " + bytes_text(before + budget)) !=
          std::string::npos);
    CHECK(activation_bytes() == before);
  }
  std::string message;
  std::vector<Tensor> held;
  try {
    Tape tape({.memory_budget = before + 4 * tensor});
    const Scope scope("part");
    const PolicyScope save(Policy::save);
    held.push_back(squared(x));
    chain(squared(x), 10);
  } catch (const MemoryError& error) {
    message = error.what();
  }
  CAPTURE(message);
  CHECK(message.find("32 B test_squared of part [8]: shown by a Tensor") != std::string::npos);
  CHECK(message.find("32 B test_squared of part [8]: marked Save") != std::string::npos);
  CHECK(message.find('\n') == std::string::npos);
  held.clear();
  CHECK(activation_bytes() == before);
  CHECK_THROWS_AS(Tape({.checkpoint = Checkpoint::blocks, .memory_budget = 1000}), UsageError);
  CHECK(Tape::current() == nullptr);
}

TEST_CASE("budget: random nets under random budgets have the same bits, and their peak is the planned one") {
  const uint32_t nets = long_tests() ? 1000 : 50;
  for (uint32_t seed = 0; seed < nets; ++seed) {
    INFO("net ", seed);
    const Step free = run(seed, {.checkpoint = Checkpoint::none, .seed = seed, .step = 5});
    const size_t base = activation_bytes();
    int refused = 0;
    for (const bool marked : {false, true})
      for (size_t budget = free.peak + 2 * tensor; refused < 1; budget -= tensor) {
        INFO("budget ", budget);
        const TapeOptions options{.seed = seed, .step = 5, .memory_budget = base + budget};
        try {
          const Step step = run(seed, options, marked);
          CHECK(step.outcome == free.outcome);
          CHECK(step.peak <= budget);
          RandomNet net(seed, marked);
          const Plan plan =
              plan_step({.seed = seed, .step = 5, .memory_budget = budget}, [&] { return net.forward(); });
          CHECK(plan.peak_bytes == step.peak);
          CHECK(plan.replay_flops == step.replay_flops);
        } catch (const MemoryError&) {
          ++refused;
        }
        CHECK(activation_bytes() == base);
        if (budget == 0) break;
      }
    CHECK(refused == 1);
  }
}

TEST_CASE("budget: planned runs of random nets: peak as planned, same bits, no more work than with a smaller budget") {
  const uint32_t nets = long_tests() ? 1000 : 50;
  for (uint32_t seed = 0; seed < nets; ++seed) {
    INFO("net ", seed);
    const bool marked = seed % 2 == 1;
    const Step free = run(seed, {.checkpoint = Checkpoint::none, .seed = seed, .step = 5});
    const size_t base = activation_bytes();
    const Frontier frontier([&] {
      RandomNet net(seed, marked);
      net.holds = false;  // plans come one after the other
      return net.forward();
    });
    const size_t least = frontier.smallest_budget();
    CHECK(frontier.within(least - 1) == nullptr);
    double work = INFINITY, replayed = INFINITY;
    for (size_t budget = least; budget <= free.peak + tensor; budget += tensor / 2) {
      INFO("budget ", budget);
      const PlannedStep* planned = frontier.within(budget);
      REQUIRE(planned);
      CHECK(planned->plan.flops + planned->plan.replay_flops <= work);
      CHECK(planned->plan.replay_flops <= replayed);
      work = planned->plan.flops + planned->plan.replay_flops;
      replayed = planned->plan.replay_flops;
      const Step step =
          run(seed, {.seed = seed, .step = 5, .memory_budget = base + budget, .plan = planned->choices}, marked, false);
      CHECK(step.outcome == free.outcome);
      CHECK(step.peak == planned->plan.peak_bytes);
      CHECK(step.peak <= budget);
      CHECK(step.replay_flops == planned->plan.replay_flops);
    }
  }
}

TEST_CASE("budget: a plan of another step is no more than advice") {
  const auto loss = [](int length) {
    return [length] { return chain(leaf({0.5F, -1, 0.25F, 1, -0.5F, 0.75F, 1, -1}), length); };
  };
  const Frontier frontier(loss(20));
  const auto choices = frontier.steps().front().choices;
  const size_t base = activation_bytes();
  for (int length : {5, 19, 21, 25}) {
    size_t peak = 0;
    const size_t budget = Frontier(loss(25)).smallest_budget() + 4 * tensor;
    CHECK(gradient_of_chain({.memory_budget = base + budget, .plan = choices}, length, &peak) ==
          gradient_of_chain({.checkpoint = Checkpoint::none}, length));
    CHECK(peak <= budget);
  }
}

TEST_CASE("budget: whatever fails under a budget leaves no byte behind, 1,000 times") {
  const Tensor x = leaf({0.5F, -1, 0.25F, 1, -0.5F, 0.75F, 1, -1});
  const size_t before = activation_bytes();
  int failures = 0;
  for (int i = 0; i < 1000; ++i) {
    set_fault(i % 3 == 0 ? Fault::forward : i % 3 == 1 ? Fault::replay : Fault::backward, i / 3 % 9);
    try {
      Tape tape({.memory_budget = before + (i % 5 == 0 ? 3 : 8) * tensor});
      tape.backward(chain(x, 12));
    } catch (const Error&) {
      ++failures;
    }
    set_fault(Fault::none);
    require_nothing_left(before);
  }
  CHECK(failures > 750);
}

}  // namespace parabola::budget_test
