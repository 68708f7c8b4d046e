// Plans of a step for every budget, made ahead of training: which results stay, which are replayed, and which variant
// of an op runs.
//
//   const Frontier frontier(loss);
//   const PlannedStep* step = frontier.within(256_MiB);
//   Tape tape({.memory_budget = 256_MiB, .plan = step->choices});
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "engine/tape/plan.h"

namespace parabola {

struct PlannedStep {
  Plan plan;                                // planned by the executor itself, so exact
  std::shared_ptr<const StepPlan> choices;  // for TapeOptions::plan
};

// What a step can be traded for. Plans come from two sources, both without regard to any one budget: results in the
// order of their replay's flops per byte, dropped one after the other (a knapsack's greedy solution, exact but for its
// last item), with a bound on how many bytes of neighbours are dropped together, since these come back together; and
// the evictor of budget.cc under limits down to the least that it can keep. Of all of them those stay that no other
// one betters; between neighbours that are far apart more are looked for. A larger budget's plan never replays more.
class Frontier {
 public:
  // Plans the step `loss` as plan_step does, some hundred times (0.1 to 0.3 s for nets of 100 nodes). The options'
  // budget and plan are ignored.
  explicit Frontier(const std::function<Tensor()>& loss, Device device = {}, TapeOptions options = {});

  // The least work within the budget. Null: no plan keeps it.
  const PlannedStep* within(size_t budget) const;
  size_t smallest_budget() const { return steps_.front().plan.peak_bytes; }
  const std::vector<PlannedStep>& steps() const { return steps_; }  // by growing peak and falling work

 private:
  std::vector<PlannedStep> steps_;
};

}  // namespace parabola
