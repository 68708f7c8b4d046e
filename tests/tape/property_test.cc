// Random small nets under random policies: the same bits as when all is kept, and exactly the bytes that a second,
// independent account of the rules asks for.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "engine/core/error.h"
#include "engine/core/memory.h"
#include "engine/ops/reduce.h"
#include "tests/support/test.h"
#include "tests/tape/random_net.h"

namespace parabola::property_test {

using namespace test;

namespace {

using Floats = std::vector<float>;

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
    const size_t bytes = (node.op == &sum_op ? 1 : RandomNet::n) * sizeof(float);
    for (int value : node.outputs) results[value] = {.bytes = bytes, .save = node.policy != Policy::recompute};
    for (int value : node.auxiliary)
      results[value] = {.bytes = bytes,
                        .save = node.policy != Policy::recompute || tape.options().checkpoint != Checkpoint::blocks};
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

}  // namespace parabola::property_test
