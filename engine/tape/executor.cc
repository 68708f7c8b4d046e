#include "engine/tape/executor.h"

#include <cmath>

#include "engine/core/error.h"
#include "engine/tape/tape.h"

namespace parabola {
namespace {

// Workspace of one kernel call, gone when the call is over, whatever happens in it.
class Workspace {
 public:
  Workspace(size_t bytes, Device device) : bytes_(bytes), memory_(Memory::of(device)) {
    if (bytes_) block_ = memory_.allocate(bytes_, Category::workspace);
  }
  ~Workspace() {
    if (block_) memory_.deallocate(block_, bytes_, Category::workspace);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  std::byte* block() const { return block_; }

 private:
  size_t bytes_;
  Memory& memory_;
  std::byte* block_ = nullptr;
};

const OpDef::Kernels& kernels_for(const OpDef& op, Device device) {
  const OpDef::Kernels& kernels = device.kind == DeviceKind::cpu ? op.cpu : op.cuda;
  if (!kernels.forward && !op.view)
    fail<DeviceError>(op.name, "has no ", device.kind == DeviceKind::cpu ? "CPU" : "CUDA", " kernel");
  return kernels;
}

void require_finite(const OpDef& op, const char* direction, std::span<const TensorView> results) {
  for (size_t i = 0; i < results.size(); ++i) {
    const TensorView& result = results[i];
    if (!result || (result.dtype != DType::f32 && result.dtype != DType::f64)) continue;
    dispatch_float(result.dtype, op.name, [&]<class T>() {
      for (int64_t k = 0; k < result.shape.elements(); ++k)
        if (!std::isfinite(result.data<T>()[k]))
          fail<Error>(op.name, direction, " produced ", result.data<T>()[k], " at flat index ", k, " of result ", i,
                      " of shape ", result.shape, ", expected finite values");
    });
  }
}

}  // namespace

Executor& Executor::instance() {
  static Executor executor;
  return executor;
}

void Executor::forward(const OpDef& op, const ForwardArgs& args, size_t workspace_bytes, const Cost& cost,
                       Device device) {
  Workspace workspace(workspace_bytes, device);
  ForwardArgs with_workspace = args;
  with_workspace.workspace = workspace.block();
  with_workspace.step = &step;
  kernels_for(op, device).forward(with_workspace);
  (args.replay ? work.replay_flops : work.flops) += cost.flops;
  if (check_finite) require_finite(op, "forward", args.outputs);
}

void Executor::backward(const OpDef& op, const BackwardArgs& args, size_t workspace_bytes, const Cost& cost,
                        Device device) {
  Workspace workspace(workspace_bytes, device);
  BackwardArgs with_workspace = args;
  with_workspace.workspace = workspace.block();
  with_workspace.step = &step;
  kernels_for(op, device).backward(with_workspace);
  work.flops += cost.flops;
  if (check_finite) require_finite(op, "backward", args.input_gradients);
}

std::vector<TensorSpec> specs_of(std::span<const Tensor> tensors) {
  std::vector<TensorSpec> specs;
  specs.reserve(tensors.size());
  for (const Tensor& tensor : tensors)
    specs.push_back(tensor ? TensorSpec{tensor.shape(), tensor.dtype()} : TensorSpec{.present = false});
  return specs;
}

TensorView view_of(const Tensor& tensor) {
  return tensor ? TensorView{tensor.raw(), tensor.shape(), tensor.dtype()} : TensorView{};
}

namespace {

// Without a tape: results live as long as the user's handles, nothing is kept.
std::vector<Tensor> run_untracked(const OpDef& op, std::span<const Tensor> inputs, const Attributes& attributes) {
  Executor& executor = Executor::instance();
  const std::vector<TensorSpec> specs = specs_of(inputs);
  const Signature signature{attributes, specs};
  const Layout layout = op.layout(signature);
  Device device;
  for (const Tensor& input : inputs)
    if (input) device = input.device();
  std::vector<Tensor> outputs, auxiliary;
  if (op.view)
    return {Tensor(inputs[0].storage(), layout.outputs[0].shape, inputs[0].dtype(),
                   inputs[0].offset() + layout.view_offset)};
  for (const TensorSpec& spec : layout.outputs)
    outputs.push_back(Tensor::empty(spec.shape, spec.dtype, Category::activations, device));
  for (const TensorSpec& spec : layout.auxiliary)
    auxiliary.push_back(Tensor::empty(spec.shape, spec.dtype, Category::activations, device));
  std::vector<TensorView> in, out, aux;
  for (const Tensor& t : inputs) in.push_back(view_of(t));
  for (const Tensor& t : outputs) out.push_back(view_of(t));
  for (const Tensor& t : auxiliary) aux.push_back(view_of(t));
  ForwardArgs args{.attributes = attributes, .inputs = in, .outputs = out, .auxiliary = aux};
  args.random = {executor.step.seed, Stream::node, executor.step.step, 0};
  executor.forward(op, args, layout.forward_workspace, op.cost ? op.cost(signature).forward : Cost{}, device);
  for (size_t i = 0; i < inputs.size() && i < 64; ++i)
    if (op.mutates >> i & 1 && inputs[i]) ++inputs[i].storage()->version;
  return outputs;
}

thread_local Policy current_policy = Policy::automatic;

}  // namespace

std::vector<Tensor> apply(const OpDef& op, std::span<const Tensor> inputs, const Attributes& attributes) {
  for (size_t i = 0; i < inputs.size() && i < 64; ++i)
    if (!inputs[i] && !(op.optional >> i & 1)) fail<UsageError>(op.name, "input ", i, " is absent");
  // A tape that has run backward records nothing more. What has no gradient anyhow, such as an optimizer's update, may
  // run beside it all the same.
  Tape* tape = Tape::current();
  if (tape && (op.cpu.backward || !tape->finished())) return tape->record(op, inputs, attributes);
  return run_untracked(op, inputs, attributes);
}

Tensor apply(const OpDef& op, std::initializer_list<Tensor> inputs, const Attributes& attributes) {
  return apply(op, std::span<const Tensor>(inputs.begin(), inputs.size()), attributes)[0];
}

PolicyScope::PolicyScope(Policy policy) : previous_(current_policy) { current_policy = policy; }
PolicyScope::~PolicyScope() { current_policy = previous_; }
Policy PolicyScope::current() { return current_policy; }

}  // namespace parabola
