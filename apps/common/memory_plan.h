// What a training step will take, and how it keeps a memory budget: planned before the first step, without data.
#pragma once
#include <functional>
#include <string>

#include "engine/tape/solver.h"

namespace parabola {

using LossOfBatch = std::function<Tensor(int64_t batch)>;  // a forward pass, on tensors whose values do not matter

// The step under the policy; under `auto`, the least work that keeps the budget. UsageError naming --memory-budget
// where no plan keeps it: what it would take, and who holds how much, and why.
PlannedStep plan_memory(Checkpoint checkpoint, size_t budget, int64_t batch, const LossOfBatch& loss, Device device);

// The largest batch whose step keeps the budget, by bisection. UsageError where not even one image does,
// or a million do.
int64_t largest_batch(size_t budget, const LossOfBatch& loss, Device device);

// A drawing of the step's activation bytes over its kernels, replays and evictions marked, as an SVG document.
std::string memory_svg(const std::string& title, const std::vector<Moment>& moments, size_t budget);

// "planned peak 108.6 MiB of activations in a step, 65.0 MiB after forward, 0.245 GFLOP replayed"
std::string describe(const Plan& plan);

}  // namespace parabola
