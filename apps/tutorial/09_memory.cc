// Chapter 9. Save or recompute
//
// At the end of this chapter you know where the memory of a training step goes, and what it costs to need less. The
// same step runs under three policies; memory.svg draws what is held while it runs. All give the same bits.
#include <algorithm>
#include <cstdio>
#include <fstream>

#include "engine/core/random.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/binary.h"
#include "engine/ops/gelu.h"
#include "engine/ops/linear.h"
#include "engine/ops/quadratic_linear.h"
#include "engine/ops/reduce.h"
#include "engine/tape/executor.h"
#include "engine/tape/tape.h"

using namespace parabola;

// An op is data, so it can be copied and changed: this one notes, whenever a kernel starts, how many bytes are held by
// what the step computes (outputs, gradients of values, scratch), and then does as the original.
std::vector<double> held;  // MiB

void note() { held.push_back(static_cast<double>(Memory::of({}).activation_bytes()) / (1 << 20)); }

template <const OpDef& op>
const OpDef& watched() {
  static const OpDef copy = [] {
    OpDef watching = op;
    watching.cpu = {[](const ForwardArgs& args) { note(), op.cpu.forward(args); },
                    [](const BackwardArgs& args) { note(), op.cpu.backward(args); }};
    return watching;
  }();
  return copy;
}

constexpr int64_t rows = 512, width = 64, blocks = 8;

struct Block {
  Tensor w, a, b, c;
  explicit Block(Random& random) {
    const auto draw = [&](const Shape& shape) {
      const Tensor parameter = Tensor::empty(shape, DType::f32, Category::parameters);
      for (float& value : parameter.span<float>()) value = random.uniform(-0.1F, 0.1F);
      return parameter.set_requires_gradient(true);
    };
    w = draw({width, width}), c = draw({width, width});
    a = draw({1, width, width}), b = draw({1, width, width});
  }
  // x + q(gelu(w x)) with a layer of quadratic neurons q. The scope says: all inside can be had again from x.
  Tensor operator()(const Tensor& x) const {
    const CheckpointScope scope("block", x);
    const Tensor bent = apply(watched<gelu_op>(), {apply(watched<linear_op>(), {x, w, {}})});
    const Tensor y = apply(watched<quadratic_linear_op>(), {bent, c, {}, a, b}, QuadraticLinearAttributes{});
    return apply(watched<add_op>(), {x, y});
  }
};

int main() {
  set_threads(1);  // scratch grows with the threads; results would not change
  Random random({.seed = 9, .stream = Stream::test});
  std::vector<Block> net;
  for (int64_t i = 0; i < blocks; ++i) net.emplace_back(random);
  const Tensor x = Tensor::empty({rows, width}, DType::f32, Category::inputs);
  for (float& value : x.span<float>()) value = random.uniform(-1, 1);

  std::ofstream svg("memory.svg");
  svg << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 640 300' font-family='sans-serif' font-size='13'>"
      << "<rect width='640' height='300' fill='white'/><text x='20' y='22'>Activation bytes in MiB while one step "
      << "runs, kernel call by kernel call</text>\n";
  for (int mib : {0, 2, 4, 6})
    svg << "<path d='M40 " << 280 - 40 * mib << "H620' stroke='#ddd'/><text x='22' y='" << 284 - 40 * mib << "'>" << mib
        << "</text>\n";

  std::vector<float> first;
  std::printf("%-9s %12s %8s %10s\n", "policy", "peak in MiB", "kernels", "flops again");
  const std::pair<Checkpoint, const char*> policies[] = {
      {Checkpoint::none, "#d55e00"}, {Checkpoint::standard, "#0072b2"}, {Checkpoint::blocks, "#009e73"}};
  for (int legend = 60; const auto& [policy, colour] : policies) {
    held.clear();
    Executor::instance().work = {};
    {
      Tape tape({.checkpoint = policy});
      Tensor y = x;
      for (const Block& block : net) y = block(y);
      tape.backward(mean(y * y));
    }
    std::vector<float> gradients;
    for (const Block& block : net)
      for (const Tensor& parameter : {block.w, block.a, block.b, block.c}) {
        const Tensor gradient = parameter.gradient();
        for (const float value : gradient.span<float>()) gradients.push_back(value);
        parameter.zero_gradient();
      }
    if (first.empty()) first = gradients;
    const double peak = *std::max_element(held.begin(), held.end());
    const WorkCounters& work = Executor::instance().work;
    std::printf("%-9s %12.2f %8zu %9.0f %%  gradients: %s\n", std::string(name_of(policy)).c_str(), peak, held.size(),
                100 * work.replay_flops / work.flops, gradients == first ? "the same bits" : "DIFFERENT");
    svg << "<text x='440' y='" << legend << "' fill='" << colour << "'>" << name_of(policy) << "</text>"
        << "<path fill='none' stroke-width='2' stroke='" << colour << "' d='M40 280";
    for (const double mib : held) svg << "V" << 280 - 40 * mib << "h7";
    svg << "'/>\n";
    legend += 20;
  }
  svg << "</svg>\n";
  std::printf("drawn in memory.svg\n");
}

// Exercise: twice as many blocks: what grows with them under each policy, and what does not?

// Prints:
//   policy     peak in MiB  kernels flops again
//   none              5.78       64         0 %  gradients: the same bits
//   default           2.91       72        18 %  gradients: the same bits
//   blocks            2.03       80        26 %  gradients: the same bits
//   drawn in memory.svg
