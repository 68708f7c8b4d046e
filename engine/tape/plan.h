// What a training step takes, known before it runs: the executor with kernels that do nothing. Storages come and go as
// in the step itself, so bytes are exact and work is what the ops' cost functions say; nothing is computed, no page of
// the activations is touched, and weights, statistics and gradients stay what they are.
#pragma once
#include <functional>

#include "engine/core/tensor.h"
#include "engine/tape/executor.h"
#include "engine/tape/tape.h"

namespace parabola {

struct Plan {
  size_t saved_bytes = 0, peak_bytes = 0;  // activation bytes when forward has ended, and at most
  double flops = 0, replay_flops = 0;      // of forward and backward; of recomputation
};

// Plans the step whose forward pass is `loss`, which is called once with a tape open and returns a scalar of it. Its
// tensors are on `device`. What `loss` reads from a tensor's memory itself, not by an op, is undefined. A budget, and
// the limit of a plan, are taken as if nothing else were alive; MemoryError where they cannot be kept. between: called
// when forward has ended.
Plan plan_step(const TapeOptions& options, const std::function<Tensor()>& loss, Device device = {},
               const std::function<void(const Tape&)>& between = nullptr);

// The plan in the options, or one that chooses nothing, with a place for every block of activation bytes of the step.
std::shared_ptr<const StepPlan> place_step(const TapeOptions& options, const std::function<Tensor()>& loss,
                                           Device device = {});

// The same step, moment by moment.
std::vector<Moment> trace_step(const TapeOptions& options, const std::function<Tensor()>& loss, Device device = {});

}  // namespace parabola
