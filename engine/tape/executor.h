// The executor: the only caller of kernels, in forward, backward and replay, and for ops outside of any tape. It
// provides workspace, picks the device's kernel, counts work, and looks for NaN and Inf where asked to.
#pragma once
#include <map>
#include <memory>

#include "engine/core/op.h"

namespace parabola {

// Work done since the last reset. 2 flops per multiply-add, as the ops' cost functions say.
struct WorkCounters {
  double flops = 0;         // forward, backward, optimizer
  double bytes = 0;         // the least that these read and write
  double replay_flops = 0;  // recomputation, counted apart: of replays, and of variants whose backward computes again
  void add(const Cost& cost) { flops += cost.flops, bytes += cost.bytes_read + cost.bytes_written; }
};

// A moment of a step, for drawings and tables: a kernel's run with the activation bytes that are alive meanwhile, or
// the bytes left when some have been evicted for a budget.
struct Moment {
  enum class Kind : uint8_t { forward, replay, backward, eviction } kind;
  size_t activations, workspace;
  const OpDef* op = nullptr;  // the kernel's, with its cost and how long it took; 0 seconds where nothing is computed
  Cost cost{};
  double seconds = 0;
};

// An op that ran without a tape, with all that its kernel was given.
struct UntrackedCall {
  const OpDef* op;
  Attributes attributes;
  std::vector<Tensor> inputs, outputs, auxiliary;
  size_t workspace;  // bytes
  Cost cost;
};

class Executor {
 public:
  static Executor& instance();

  StepRecord step;  // what kernels read of the current step
  WorkCounters work;
  bool planning = false;                        // kernels are not called: plan.h
  std::vector<Moment>* moments = nullptr;       // where each moment goes; null: nowhere
  std::vector<UntrackedCall>* calls = nullptr;  // the same for calls without a tape
  bool check_finite = false;  // debug mode: Error naming the op and scope that produced the first NaN or Inf

  void forward(const OpDef& op, const ForwardArgs& args, size_t workspace_bytes, const Cost& cost, Device device);
  void run(const OpDef& op, ForwardArgs& args, const Cost& cost, Device device);  // the same with workspace at hand
  RandomKey random_outside_tapes() const { return {step.seed, Stream::node, step.step, 0}; }
  // recomputed: of the flops, those that a variant which keeps more would spare.
  void backward(const OpDef& op, const BackwardArgs& args, size_t workspace_bytes, const Cost& cost, Device device,
                double recomputed = 0);

  void note(Moment::Kind kind, Device device, const OpDef* op = nullptr, const Cost& cost = {});

 private:
  template <class Kernel>
  void run_timed(Device device, const Kernel& kernel);
  const StepRecord* step_on(Device device);
  struct SentStep {
    StepRecord record;
    std::unique_ptr<Storage> bytes;
  };
  std::map<int, SentStep> sent_steps_;  // by number of the device
};

// The one device that the inputs are on. DeviceError, naming the op, where they are on several.
Device device_of(const OpDef& op, std::span<const Tensor> inputs);

// The specs of tensors as an op's rules see them.
std::vector<TensorSpec> specs_of(std::span<const Tensor> tensors);
TensorView view_of(const Tensor& tensor);

}  // namespace parabola
