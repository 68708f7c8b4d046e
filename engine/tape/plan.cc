#include "engine/tape/plan.h"

#include <algorithm>

#include "engine/core/memory.h"
#include "engine/tape/planning.h"

namespace parabola {
namespace {

// The options of a step that begins with `alive` bytes of others, which it is not to be charged with.
TapeOptions beside(size_t alive, TapeOptions options) {
  const auto more = [&](size_t bytes) {
    return bytes == no_budget ? no_budget : bytes + std::min(alive, no_budget - 1 - bytes);
  };
  options.memory_budget = more(options.memory_budget);
  if (options.plan && alive > 0) {
    auto plan = std::make_shared<StepPlan>(*options.plan);
    plan->limit = more(plan->limit);
    options.plan = std::move(plan);
  }
  return options;
}

Plan plan(const TapeOptions& options, const std::function<Tensor()>& loss, Device device,
          const std::function<void(const Tape&)>& between, const PlanningDetails& details) {
  const Planning planning(device, details);
  Memory& memory = Memory::of(device);
  const size_t before = memory.activation_bytes();
  memory.reset_peak();
  Plan plan;
  {
    Tape tape(beside(before, options));
    const Tensor root = loss();
    plan.saved_bytes = memory.activation_bytes() - before;
    if (between) between(tape);
    tape.backward(root);
  }
  plan.peak_bytes = memory.peak_activation_bytes() - before;
  plan.flops = planning.work().flops;
  plan.replay_flops = planning.work().replay_flops;
  return plan;
}

}  // namespace

Plan plan_step(const TapeOptions& options, const std::function<Tensor()>& loss, Device device,
               const std::function<void(const Tape&)>& between) {
  return plan(options, loss, device, between, {});
}

std::shared_ptr<const StepPlan> place_step(const TapeOptions& options, const std::function<Tensor()>& loss,
                                           Device device) {
  BlockRecord blocks;
  plan(options, loss, device, nullptr, {.blocks = &blocks});
  auto placed = std::make_shared<StepPlan>(options.plan ? *options.plan : StepPlan{});
  placed->arena = Memory::of(device).plan_for(blocks);
  placed->device = device;
  return placed;
}

std::vector<Moment> trace_step(const TapeOptions& options, const std::function<Tensor()>& loss, Device device) {
  std::vector<Moment> moments;
  plan(options, loss, device, nullptr, {.moments = &moments});
  return moments;
}

}  // namespace parabola
