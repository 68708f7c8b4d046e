// Runs one op case on a tape; what the harness compares.
#pragma once
#include <optional>
#include <vector>

#include "engine/tape/tape.h"
#include "tests/ops/harness.h"

namespace parabola::test {

// loss = sum(w * y), so that one number depends on every output element, and the sum of such losses. Ops from outside
// of the engine, as a user's; their CUDA kernels are in projection.cu.
extern const OpDef projection_op, sum_losses_op;

struct Run {
  std::vector<Array> outputs, gradients;  // gradients are empty where not wanted
  std::vector<Array> changed;             // the inputs that the op mutates, afterwards
  double loss = 0;
};

struct RunOptions {
  DType dtype = DType::f64;
  Checkpoint checkpoint = Checkpoint::standard;
  int threads = 1;
  std::optional<size_t> only;  // the one input whose gradient is wanted
  int backwards = 1;
  bool gradients = true;
  Device device = {};
  bool activations = false;  // inputs are results of ops, as inside of a net, and not leaves; every bit is the same
  int64_t offset = 0;  // elements between the begin of a floating input's bytes and the input: no vector fits there
};

// The inputs' values, rounded to float, so that f32 and f64 runs see the same numbers.
std::vector<Array> make_inputs(const OpCase& op_case);
Run run_case(const OpCase& op_case, const std::vector<Array>& inputs, const RunOptions& options);
bool wants_any_gradient(const OpCase& op_case);

// check_op for a device: against the CPU's kernels, and for all that must not change a bit. device_harness.cc
void check_op_on(Device device, const OpCase& op_case);

// The worst norm-wise error of a float32 run there, outputs and gradients; for kernels with a planted mistake, which
// must be caught.
double device_error(Device device, const OpCase& op_case);

// Has threads and blocks take turns in reverse order, where the device can; null where it cannot, as a chip.
extern void (*reverse_order)(bool);

}  // namespace parabola::test
