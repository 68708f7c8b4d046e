// Random small nets under random policies: the same bits as when all is kept, and exactly the bytes that a second,
// independent account of the rules asks for.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "engine/core/error.h"
#include "engine/core/memory.h"
#include "engine/ops/binary.h"
#include "engine/ops/concat.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/ops/view.h"
#include "engine/tape/tape.h"
#include "tests/support/test.h"
#include "tests/tape/test_ops.h"

using namespace parabola;
using namespace parabola::test;

namespace {

constexpr int64_t n = 8;  // elements of every value but the loss
using Floats = std::vector<float>;

// A net drawn from `seed`. Its marks (PolicyScope, CheckpointScope) are drawn apart, so that it is the same net
// without.
class RandomNet {
 public:
  RandomNet(uint32_t seed, bool marked)
      : net_({.seed = 1, .stream = Stream::test, .step = 0, .item = seed}),
        marks_({.seed = 2, .stream = Stream::test, .step = 0, .item = seed}),
        marked_(marked) {
    for (int i = 0; i < 3; ++i) {
      Floats values;
      for (int64_t k = 0; k < n; ++k) values.push_back(net_.uniform(-1, 1));  // all ops keep values within these bounds
      leaves.push_back(leaf(values, i == 0 || net_.below(4) != 0));
    }
    holds_ = net_.below(2) == 0;
    length_ = 3 + net_.below(25);
  }

  // The loss. What the net holds on to is in `held`, what it marked as a checkpoint in `checkpoints`.
  Tensor forward() {
    held = leaves;
    for (uint32_t i = 0; i < length_; ++i) {
      const Policy policies[] = {Policy::automatic, Policy::automatic, Policy::save, Policy::recompute};
      const Policy policy = policies[marks_.below(4)];
      const bool checkpoint = marks_.below(6) == 0;
      const Tensor x = pick(), y = pick();
      std::optional<CheckpointScope> block;
      if (marked_ && checkpoint) {
        block.emplace("block", x);
        checkpoints.insert(x.value());
      }
      const PolicyScope mark(marked_ ? policy : Policy::automatic);
      add_op(x, y);
      if (held.size() > 2 && net_.below(3) == 0)
        held.erase(held.begin() + net_.below(static_cast<uint32_t>(held.size())));
    }
    Tensor total = square(leaves[0]);
    for (const Tensor& value : held)
      if (net_.below(2) == 0) total = scale(total + value, 0.5F);
    if (!holds_) held.clear();
    return sum(total);
  }

  std::vector<Tensor> leaves, held;
  const Tensor counter = leaf({0}, false);
  std::set<int> checkpoints;

 private:
  Tensor pick() { return held[net_.below(static_cast<uint32_t>(held.size()))]; }

  void add_op(const Tensor& x, const Tensor& y) {
    switch (net_.below(11)) {
      case 0: return held.push_back(scale(x + y, 0.5F));
      case 1: return held.push_back(x * y);
      case 2: return held.push_back(relu(x));
      case 3: return held.push_back(square(x));
      case 4: return held.push_back(cube(x));
      case 5: return held.push_back(noise(x));
      case 6: return held.push_back(scale(x, -0.75F));
      case 7: return held.push_back(count(x, counter));
      case 8: return held.push_back(concat({view(x, {n / 2}, n / 2), view(y, {n / 2})}, 0));
      case 9: return held.push_back(reshape(reshape(x, {2, n / 2}), {n}));
      default: {
        const std::vector<Tensor> both = powers(x);
        if (net_.below(2) == 0) held.push_back(both[0]);
        held.push_back(both[1]);
      }
    }
  }

  Random net_, marks_;
  bool marked_, holds_ = false;
  uint32_t length_ = 0;
};

// The bytes that must stay between forward and backward, from DESIGN's rules alone: what somebody holds; and, of what
// is to be saved, what a backward function reads or the replay of something that is not saved but needed.
size_t bytes_to_keep(const Tape& tape, const std::vector<Tensor>& held, const std::set<int>& checkpoints) {
  struct Result {
    size_t bytes = 0;
    bool save = false, needed = false, held = false;
  };
  const auto& nodes = tape.nodes();
  std::map<int, int> shown_by;  // a view's value -> the value whose bytes it shows
  std::map<int, Result> results;
  const auto bytes_of = [&](int value) { return shown_by.contains(value) ? shown_by.at(value) : value; };
  for (const Node& node : nodes) {
    if (node.op->view) {
      shown_by[node.outputs[0]] = bytes_of(node.inputs[0]);
      continue;
    }
    const size_t bytes = (node.op == &sum_op ? 1 : n) * sizeof(float);
    for (int value : node.outputs) results[value] = {.bytes = bytes, .save = !node.recompute};
    for (int value : node.auxiliary)
      results[value] = {.bytes = bytes, .save = !node.recompute || tape.options().checkpoint != Checkpoint::blocks};
  }
  const auto each = [&](const std::vector<int>& values, uint64_t mask, auto&& visit) {
    for (size_t i = 0; i < values.size(); ++i)
      if (mask >> i & 1)
        if (const auto found = results.find(bytes_of(values[i])); found != results.end()) visit(found->second);
  };
  constexpr uint64_t all = ~uint64_t{0};
  if (tape.options().checkpoint != Checkpoint::none)
    for (int value : checkpoints) each({value}, all, [](Result& r) { r.save = true; });
  for (const Tensor& tensor : held)
    if (tensor.tape() == tape.serial()) each({tensor.value()}, all, [](Result& r) { r.held = r.needed = true; });
  const auto need = [](Result& r) { r.needed = true; };
  for (const Node& node : nodes) {
    each(node.inputs, node.needs.inputs, need);
    each(node.outputs, node.needs.outputs, need);
    each(node.auxiliary, node.needs.auxiliary, need);
  }
  for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
    bool replayed = false;
    const auto look = [&](const Result& r) { replayed |= r.needed && !r.save; };
    if (!node->op->view) each(node->outputs, all, look), each(node->auxiliary, all, look);
    if (replayed) each(node->inputs, all, need);
  }
  size_t bytes = 0;
  for (const auto& [value, r] : results) bytes += r.held || (r.needed && r.save) ? r.bytes : 0;
  return bytes;
}

size_t bytes_of_results(const Tape& tape, const std::vector<Tensor>& tensors) {
  std::set<const Storage*> storages;
  size_t bytes = 0;
  for (const Tensor& tensor : tensors)
    if (tensor.tape() == tape.serial() && tensor.storage()->category() == Category::activations &&
        storages.insert(&*tensor.storage()).second)
      bytes += tensor.storage()->bytes();
  return bytes;
}

struct Outcome {
  float loss = 0;
  std::vector<Floats> gradients;
  double counter = 0;
  bool operator==(const Outcome&) const = default;
};

Outcome run(uint32_t seed, Checkpoint checkpoint, bool marked) {
  const size_t before = activation_bytes();
  Outcome outcome;
  {
    RandomNet net(seed, marked);
    Tape tape({.checkpoint = checkpoint, .seed = seed, .step = 5});
    calls = {};
    const Tensor loss = net.forward();
    std::vector<Tensor> held = net.held;
    held.push_back(loss);
    CHECK(activation_bytes() - before == bytes_to_keep(tape, held, net.checkpoints));
    std::vector<Floats> shown;
    for (const Tensor& tensor : held) shown.push_back(values_of(tensor));
    tape.backward(loss);
    CHECK(calls.replay <= calls.forward);  // none twice
    CHECK(activation_bytes() - before == bytes_of_results(tape, held));
    for (size_t i = 0; i < held.size(); ++i) CHECK(values_of(held[i]) == shown[i]);
    outcome.loss = static_cast<float>(loss.item());
    outcome.counter = net.counter.item();
    for (const Tensor& parameter : net.leaves) outcome.gradients.push_back(values_of(parameter.gradient()));
  }
  CHECK(activation_bytes() == before);
  return outcome;
}

// One step in which a kernel fails, sooner or later, or in which none does.
void run_with_fault(uint32_t seed, Checkpoint checkpoint) {
  const size_t before = activation_bytes();
  Random random({.seed = 3, .stream = Stream::test, .step = 0, .item = seed});
  try {
    RandomNet net(seed, true);
    Tape tape({.checkpoint = checkpoint});
    set_fault(static_cast<Fault>(1 + random.below(3)), static_cast<int>(random.below(12)));
    const Tensor loss = net.forward();
    tape.backward(loss);
  } catch (const Error&) {
  }
  set_fault(Fault::none);
  CHECK(activation_bytes() == before);
  CHECK(Tape::current() == nullptr);
}

}  // namespace

TEST_CASE("property: random nets under random policies have the same bits, keep what they must, and free all of it") {
  const uint32_t nets = long_tests() ? 20000 : 300;
  for (uint32_t seed = 0; seed < nets; ++seed) {
    INFO("net ", seed);
    const Outcome expected = run(seed, Checkpoint::none, false);
    CHECK(std::ranges::any_of(expected.gradients[0], [](float g) { return g != 0; }));
    for (const Checkpoint checkpoint : {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks}) {
      INFO("policy ", std::string(name_of(checkpoint)));
      CHECK(run(seed, checkpoint, true) == expected);
      run_with_fault(seed, checkpoint);
    }
    CHECK(run(seed, Checkpoint::blocks, false) == expected);
  }
}
