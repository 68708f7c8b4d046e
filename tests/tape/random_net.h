// Random small nets for properties of the tape.
#pragma once
#include <optional>
#include <set>

#include "engine/core/random.h"
#include "engine/ops/binary.h"
#include "engine/ops/concat.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/ops/view.h"
#include "engine/tape/tape.h"
#include "tests/tape/test_ops.h"

namespace parabola::test {

// A net drawn from `seed`. Its marks (PolicyScope, CheckpointScope) are drawn apart, so that it is the same net
// without.
class RandomNet {
 public:
  static constexpr int64_t n = 8;  // elements of every value but the loss

  RandomNet(uint32_t seed, bool marked)
      : net_({.seed = 1, .stream = Stream::test, .step = 0, .item = seed}),
        marks_({.seed = 2, .stream = Stream::test, .step = 0, .item = seed}),
        marked_(marked) {
    for (int i = 0; i < 3; ++i) {
      std::vector<float> values;
      for (int64_t k = 0; k < n; ++k) values.push_back(net_.uniform(-1, 1));  // all ops keep values within these bounds
      leaves.push_back(leaf(values, i == 0 || net_.below(4) != 0));
    }
    holds = net_.below(2) == 0;
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
    Tensor total = squared(leaves[0]);
    for (const Tensor& value : held)
      if (net_.below(2) == 0) total = scale(total + value, 0.5F);
    if (!holds) held.clear();
    return sum(total);
  }

  std::vector<Tensor> leaves, held;
  bool holds = false;  // on to some of its values when forward has ended
  const Tensor counter = leaf({0}, false);
  std::set<int> checkpoints;

 private:
  Tensor pick() { return held[net_.below(static_cast<uint32_t>(held.size()))]; }

  void add_op(const Tensor& x, const Tensor& y) {
    switch (net_.below(11)) {
      case 0: return held.push_back(scale(x + y, 0.5F));
      case 1: return held.push_back(x * y);
      case 2: return held.push_back(relu(x));
      case 3: return held.push_back(squared(x));
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
  bool marked_;
  uint32_t length_ = 0;
};

}  // namespace parabola::test
