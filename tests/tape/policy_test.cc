// What stays between forward and backward under each policy, to the byte and by hand.
#include <doctest/doctest.h>

#include <functional>

#include "engine/core/memory.h"
#include "engine/ops/binary.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/ops/view.h"
#include "engine/tape/executor.h"
#include "engine/tape/tape.h"
#include "tests/tape/test_ops.h"

namespace parabola::policy_test {

using namespace test;

namespace {

using Floats = std::vector<float>;
constexpr size_t tensor = 8 * sizeof(float), loss_bytes = sizeof(float);
const Checkpoint all_policies[] = {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks};

struct Run {
  size_t kept = 0;  // activation bytes when forward has ended and only the loss is held
  Calls calls;      // of backward and its replays
  Floats gradient;
};

using Net = std::function<Tensor(const Tensor& weight)>;

// One step of `net`, whose result is summed up to the loss.
Run run(Checkpoint checkpoint, const Net& net) {
  const Tensor weight = leaf({0.5F, -1, 0.25F, 2, -0.5F, 1, 1.5F, -2});
  const size_t before = activation_bytes();
  Run result;
  {
    Tape tape({.checkpoint = checkpoint, .seed = 3, .step = 4});
    const Tensor loss = sum(net(weight));
    result.kept = activation_bytes() - before;
    calls = {};
    tape.backward(loss);
    result.calls = calls;
    CHECK(activation_bytes() - before == loss_bytes);  // backward has freed all but what is held
  }
  CHECK(activation_bytes() == before);
  result.gradient = values_of(weight.gradient());
  return result;
}

// The number of whole tensors that stay beside the loss.
size_t tensors_kept(Checkpoint checkpoint, const Net& net) {
  const size_t bytes = run(checkpoint, net).kept - loss_bytes;
  CHECK(bytes % tensor == 0);
  return bytes / tensor;
}

// h1 multiply, recompute; its backward reads the frozen factor
// h2 square, save; reads h1
// h3 relu, recompute; reads h3
// h4 cube, recompute; reads its auxiliary result
// h5 scale, save; reads nothing
// h6 square, save; reads h5
Tensor six_ops(const Tensor& weight) {
  const Tensor x = Tensor::full({8}, 0.75, DType::f32, Category::inputs);
  return squared(scale(cube(relu(squared(x * weight))), 2));
}

}  // namespace

TEST_CASE("policy: what a chain of six ops keeps") {
  // none: h1, h3, the auxiliary result, h5. h2, h4 and h6 die with their last reader.
  const Run none = run(Checkpoint::none, six_ops);
  CHECK(none.kept == 4 * tensor + loss_bytes);
  CHECK(none.calls == Calls{.backward = 4});
  // default: h2, from which h3 is replayed; the auxiliary result; h5. h1 is replayed from the leaves.
  const Run standard = run(Checkpoint::standard, six_ops);
  CHECK(standard.kept == 3 * tensor + loss_bytes);
  CHECK(standard.calls == Calls{.backward = 4});
  // blocks: nothing; all is replayed from the leaves, each op once.
  const Run blocks = run(Checkpoint::blocks, six_ops);
  CHECK(blocks.kept == loss_bytes);
  CHECK(blocks.calls == Calls{.replay = 3, .backward = 4});
  CHECK(standard.gradient == none.gradient);
  CHECK(blocks.gradient == none.gradient);
}

TEST_CASE("policy: the input of a checkpoint scope stays where anything needs it") {
  const Net net = [](const Tensor& weight) {
    const Tensor y = cube(scale(weight, 2));
    const CheckpointScope block("block", y);
    return cube(scale(y, 3));
  };
  CHECK(tensors_kept(Checkpoint::none, net) == 2);      // the auxiliary results
  CHECK(tensors_kept(Checkpoint::standard, net) == 2);  // the same; y is not needed, so it does not stay
  CHECK(tensors_kept(Checkpoint::blocks, net) == 1);    // y
  const Run blocks = run(Checkpoint::blocks, net);
  CHECK(blocks.calls == Calls{.replay = 4, .backward = 4});
  CHECK(blocks.gradient == run(Checkpoint::none, net).gradient);
}

TEST_CASE("policy: the input of a checkpoint scope stays under default, too, if it would have been evicted") {
  const auto net = [](bool marked, const Tensor& weight) {
    const Tensor y = relu(scale(weight, 2));
    if (!marked) return squared(y);
    const CheckpointScope block("block", y);
    return squared(y);
  };
  const Net plain = std::bind_front(net, false), marked = std::bind_front(net, true);
  CHECK(tensors_kept(Checkpoint::standard, plain) == 1);  // relu's input, to replay relu
  const Run run_plain = run(Checkpoint::standard, plain), run_marked = run(Checkpoint::standard, marked);
  CHECK(tensors_kept(Checkpoint::standard, marked) == 1);  // relu's output instead
  CHECK(run_plain.gradient == run_marked.gradient);
  CHECK(tensors_kept(Checkpoint::none, marked) == 1);
}

TEST_CASE("policy: an explicit mark wins over the run's policy and the op's default") {
  const auto net = [](Policy policy, const Tensor& weight) {
    const Tensor y = scale(weight, 2);
    const PolicyScope mark(policy);
    return squared(relu(y));
  };
  const Net automatic = std::bind_front(net, Policy::automatic), save = std::bind_front(net, Policy::save),
            recompute = std::bind_front(net, Policy::recompute);
  // Under blocks the held loss is recomputed, too. Should it be let go, its replay would need what square has saved.
  const auto saved_tensors = [](Checkpoint checkpoint) { return checkpoint == Checkpoint::blocks ? size_t{2} : 1; };
  CHECK(run(Checkpoint::standard, automatic).kept == tensor + loss_bytes);  // y, to replay relu
  CHECK(run(Checkpoint::standard, save).kept == tensor + loss_bytes);       // relu's output instead
  // square's output was recomputed: nothing reads it, so its claim on its input ended with its last handle.
  for (const Checkpoint checkpoint : all_policies) {
    CHECK(run(checkpoint, recompute).kept == (checkpoint == Checkpoint::blocks ? 0 : tensor) + loss_bytes);
    CHECK(run(checkpoint, save).kept == saved_tensors(checkpoint) * tensor + loss_bytes);
    CHECK(run(checkpoint, save).calls.replay == 0);
    CHECK(run(checkpoint, recompute).gradient == run(checkpoint, save).gradient);
  }
  CHECK(run(Checkpoint::blocks, automatic).calls.replay == 1);  // scale's; relu is none of the test's ops
}

TEST_CASE("policy: auxiliary results stay by default and are recomputed under blocks, whatever becomes of the output") {
  const Net net = [](const Tensor& weight) { return squared(cube(scale(weight, 2))); };
  CHECK(tensors_kept(Checkpoint::none, net) == 2);      // auxiliary, cube's output for square
  CHECK(tensors_kept(Checkpoint::standard, net) == 2);  // auxiliary, scale's output to replay cube's
  CHECK(tensors_kept(Checkpoint::blocks, net) == 0);
  const Net saved = [](const Tensor& weight) {
    const Tensor y = scale(weight, 2);
    const PolicyScope mark(Policy::save);
    return squared(cube(y));
  };
  CHECK(tensors_kept(Checkpoint::none, saved) == 2);
  CHECK(tensors_kept(Checkpoint::standard, saved) == 2);
  CHECK(tensors_kept(Checkpoint::blocks, saved) == 3);  // and square's output, for the loss
  // The output is kept as a checkpoint, the auxiliary result is not: the replay's claim on the input must stay.
  const Net checkpointed = [](const Tensor& weight) {
    const Tensor y = cube(scale(weight, 2));
    const CheckpointScope block("block", y);
    return squared(y);
  };
  CHECK(tensors_kept(Checkpoint::blocks, checkpointed) == 1);
  CHECK(run(Checkpoint::blocks, checkpointed).calls == Calls{.replay = 2, .backward = 3});
  CHECK(run(Checkpoint::blocks, checkpointed).gradient == run(Checkpoint::none, checkpointed).gradient);
}

TEST_CASE("policy: views keep and release their bytes with the value they show") {
  const Net net = [](const Tensor& weight) {
    const Tensor y = relu(scale(weight, 2)), matrix = reshape(y, {2, 4});
    return squared(reshape(matrix, {8})) + squared(y);
  };
  CHECK(tensors_kept(Checkpoint::none, net) == 1);
  CHECK(tensors_kept(Checkpoint::standard, net) == 1);
  CHECK(tensors_kept(Checkpoint::blocks, net) == 0);
  for (const Checkpoint checkpoint : all_policies)
    CHECK(run(checkpoint, net).gradient == run(Checkpoint::none, net).gradient);
  const Net kept = [](const Tensor& weight) {
    const Tensor y = relu(scale(weight, 2));
    const CheckpointScope block("block", reshape(y, {4, 2}));  // a view marks the whole value
    return squared(y);
  };
  CHECK(tensors_kept(Checkpoint::blocks, kept) == 1);
  CHECK(run(Checkpoint::blocks, kept).calls.replay == 0);
}

TEST_CASE("policy: several outputs, of which one is unused, one is held, one is replayed") {
  Tensor held;
  const Net net = [&](const Tensor& weight) {
    const std::vector<Tensor> y = powers(scale(weight, 2));
    held = y[0];
    return squared(y[1]);
  };
  for (const Checkpoint checkpoint : all_policies) {
    const Tensor weight = leaf({1, 2, 3, 4, 5, 6, 7, 8});
    const size_t before = activation_bytes();
    Tape tape({.checkpoint = checkpoint});
    const Tensor loss = sum(net(weight));
    // none: scale's and the third power; default: scale's, from which the third power is replayed; blocks: nothing.
    const size_t kept = checkpoint == Checkpoint::none ? 2 : checkpoint == Checkpoint::standard ? 1 : 0;
    CHECK(activation_bytes() - before == kept * tensor + tensor + loss_bytes);
    const Floats squares = values_of(held);
    tape.backward(loss);
    CHECK(values_of(held) == squares);
    CHECK(activation_bytes() - before == tensor + loss_bytes);
    CHECK(values_of(weight.gradient())[2] == 6 * 64 * 243);  // (2w)^6
    held = Tensor();
    CHECK(activation_bytes() - before == loss_bytes);
  }
}

TEST_CASE("policy: a value that is held is there, and is replayed by nobody") {
  for (const Checkpoint checkpoint : all_policies) {
    const Tensor weight = leaf({1, 2});
    Tape tape({.checkpoint = checkpoint});
    const Tensor y = scale(weight, 2), z = relu(y), loss = sum(squared(z));
    calls = {};
    tape.backward(loss);
    CHECK(calls == Calls{.backward = 2});
    CHECK(values_of(z) == Floats{2, 4});
    CHECK(values_of(weight.gradient()) == Floats{8, 16});
  }
}

TEST_CASE("policy: dead values die at once in forward, with a tape and without") {
  const Tensor weight = leaf({1, 2, 3, 4, 5, 6, 7, 8}), frozen = leaf({1, 2, 3, 4, 5, 6, 7, 8}, false);
  const auto peak_of = [](const std::function<void()>& body) {
    Memory& memory = Memory::of({});
    memory.reset_peak();
    const size_t before = activation_bytes();
    body();
    return memory.peak_activation_bytes() - before;
  };
  // Not scale(scale(x)): what an expression has made lives until its end.
  const auto ten_scales = [](Tensor x) {
    for (int i = 0; i < 10; ++i) x = scale(x, 0.5F);
  };
  const auto ten_cubes = [](Tensor x) {
    for (int i = 0; i < 10; ++i) x = cube(x);
  };
  const auto check = [&] {
    CHECK(peak_of([&] { ten_scales(frozen); }) == 2 * tensor);
    CHECK(peak_of([&] { ten_scales(weight); }) == 2 * tensor);
    // Of frozen inputs nothing is kept, however much backward would read: two values and the auxiliary result.
    CHECK(peak_of([&] { ten_cubes(frozen); }) == 3 * tensor);
  };
  check();
  for (const Checkpoint checkpoint : all_policies) {
    const Tape tape({.checkpoint = checkpoint});
    check();
  }
}

TEST_CASE("policy: backward frees a value with its last use, long before the turn of its producer") {
  // Six squares that are replayed together: at the most, five of their values and two gradients are alive.
  const auto peak_of = [](const std::function<Tensor(const Tensor& early)>& use) {
    const Tensor weight = leaf({0.5F, -1, 0.25F, 2, -0.5F, 1, 1.5F, -2});
    Tape tape;
    Tensor early = scale(weight, 2), y = weight;
    const size_t before = activation_bytes() - tensor;
    {
      const PolicyScope mark(Policy::recompute);
      for (int i = 0; i < 6; ++i) y = squared(y);
    }
    const Tensor loss = sum(scale(y, 1)) + use(early);
    y = early = Tensor();
    Memory::of({}).reset_peak();
    tape.backward(loss);
    return Memory::of({}).peak_activation_bytes() - before;
  };
  const Tensor zero = leaf({0}, false);
  const size_t chain = 5 * tensor + 2 * tensor + loss_bytes;
  const auto nothing = [&](const Tensor&) { return sum(zero); };
  const auto read = [&](const Tensor& early) { return sum(squared(early)); };
  const auto claimed = [&](const Tensor& early) {
    relu(early);  // leads nowhere, but that it does is known only now
    return sum(zero);
  };
  CHECK(peak_of(nothing) == chain);
  CHECK(peak_of(read) == chain + tensor);  // its gradient, for the producer
  CHECK(peak_of(claimed) == chain);
}

TEST_CASE("policy: random ops draw the same numbers in a replay, and others in another step or node") {
  const Net net = [](const Tensor& weight) { return squared(noise(squared(noise(weight)))); };
  const Floats gradient = run(Checkpoint::none, net).gradient;
  for (const Checkpoint checkpoint : all_policies) CHECK(run(checkpoint, net).gradient == gradient);
  CHECK(run(Checkpoint::blocks, net).calls.replay == 3);
  const Tensor x = leaf({1, 1});
  std::vector<Floats> draws;
  for (const TapeOptions& options : {TapeOptions{.seed = 1}, {.seed = 2}, {.seed = 1, .step = 1}}) {
    const Tape tape(options);
    draws.push_back(values_of(noise(x)));
    draws.push_back(values_of(noise(x)));
  }
  for (size_t i = 0; i < draws.size(); ++i)
    for (size_t k = i + 1; k < draws.size(); ++k) CHECK(draws[i] != draws[k]);
}

TEST_CASE("policy: what an op changes in place, it changes once") {
  for (const Checkpoint checkpoint : all_policies) {
    const Tensor weight = leaf({1, 2}), counter = leaf({0}, false);
    Tape tape({.checkpoint = checkpoint});
    Tensor y = weight;
    for (int i = 0; i < 3; ++i) y = squared(count(y, counter));
    tape.backward(sum(y));
    CHECK(counter.item() == 3);
    CHECK(values_of(weight.gradient()) == Floats{8, 1024});
  }
}

TEST_CASE("policy: work is counted, that of replays apart") {
  WorkCounters& work = Executor::instance().work;
  for (const Checkpoint checkpoint : {Checkpoint::none, Checkpoint::blocks}) {
    const Tensor weight = leaf({1, 2, 3, 4, 5, 6, 7, 8}), frozen = leaf({1, 2, 3, 4, 5, 6, 7, 8}, false);
    work = {};
    Tape tape({.checkpoint = checkpoint});
    const Tensor loss = sum(squared(scale(squared(weight), 2)));
    cube(frozen);
    CHECK(work.flops == 2 * 8 * 4 + 8);  // 4 ops of the tests at 2 a element, the sum at 1
    tape.backward(loss);
    CHECK(work.flops == 2 * 8 * 4 + 8 + 3 * 8 * 3);
    CHECK(work.replay_flops == (checkpoint == Checkpoint::none ? 0 : 2 * 8 * 2));  // the first square, scale
  }
}

TEST_CASE(
    "policy: none chooses the variant that recomputes least, default the op's, and only where there is a backward") {
  static std::vector<int> variants;
  variants.clear();
  const OpDef variants_op = {.name = "test_variants",
                             .layout =
                                 [](const Signature& s) {
                                   variants.push_back(s.variant);
                                   return Layout{.outputs = {s.inputs[0]}};
                                 },
                             .variants = 3,
                             .usual_variant = 1,
                             .cpu = {[](const ForwardArgs&) {}, [](const BackwardArgs&) {}}};
  const Tensor weight = leaf({1}), frozen = leaf({1}, false);
  apply(variants_op, {weight});
  for (const Checkpoint checkpoint : all_policies) {
    const Tape tape({.checkpoint = checkpoint});
    apply(variants_op, {weight});
    apply(variants_op, {frozen});
  }
  const Tape tape({.checkpoint = Checkpoint::standard});
  const PolicyScope marked(Policy::recompute);
  apply(variants_op, {weight});
  // Without a tape, then of each policy one with a gradient and one without, then marked.
  CHECK(variants == std::vector<int>{0, 2, 0, 1, 0, 0, 0, 0});
}

TEST_CASE("policy: a checkpoint scope of an absent tensor, a leaf, or without a tape only names its part") {
  const Tensor x = leaf({1});
  { const CheckpointScope block("block", x); }
  const Tape tape({.checkpoint = Checkpoint::blocks});
  const CheckpointScope absent("absent", Tensor()), block("block", x);
  CHECK(Scope::current() == "absent.block");
}

}  // namespace parabola::policy_test
