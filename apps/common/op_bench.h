// bench --op: one op at the sizes that the models use it at.
#pragma once
#include <string>
#include <vector>

#include "apps/common/measure.h"
#include "engine/core/op.h"

namespace parabola {

// An op with its attributes and inputs: one row of the table. The first axis of input 0, and of the integer ones, is
// the batch; an optimizer has none.
struct OpBench {
  std::string sizes;  // for people: "3x3, 64 -> 64, 32x32, batch 128"
  const OpDef* op;
  Attributes attributes;
  std::vector<Shape> inputs;  // all that the op takes; of rank 0: absent
  uint64_t gradients;         // bit i: the gradient of input i is computed
  uint64_t integers = 0;      // bit i: input i is i32 (labels), the others are f32
  int64_t batch() const { return inputs[0].rank() ? inputs[0][0] : 1; }
};

// All rows for `op`, or of all ops for "all". UsageError for a name without any, with those that there are.
std::vector<OpBench> op_benches(const std::string& op);

// What of an op counts: forward for inference, forward and then all gradients, or of these two the gradients alone.
enum class OpPass { forward, both, backward };

// The op alone, called as the executor calls it. Of an op without gradients `both` is forward and `backward` nothing.
Measurement measure_op(const OpBench& bench, int64_t batch, Device device, OpPass pass, double least_seconds = 0.3);

}  // namespace parabola
