#include "engine/tape/executor.h"

#include <chrono>
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
  if (device.kind == DeviceKind::cpu) return op.cpu;
  static const OpDef::Kernels none;
  const CudaKernels::Entry* entry = CudaKernels::of(op);
  return entry ? entry->kernels : none;
}

template <class Kernel>
void require_kernel(const OpDef& op, Kernel kernel, Device device) {
  if (!kernel) fail<DeviceError>(op.name, "has no ", device.kind == DeviceKind::cpu ? "CPU" : "CUDA", " kernel");
}

void require_finite(const OpDef& op, const char* direction, std::span<const TensorView> results, Device device) {
  for (size_t i = 0; i < results.size(); ++i) {
    const TensorView& result = results[i];
    if (!result || !is_floating(result.dtype)) continue;
    dispatch_any_float(result.dtype, op.name, [&]<class T>() {
      const T* values = result.data<T>();
      std::vector<T> copy;
      if (device.kind != DeviceKind::cpu) {
        copy.resize(static_cast<size_t>(result.shape.elements()));
        backend_of(device).copy(device.index, copy.data(), values, copy.size() * sizeof(T),
                                DeviceBackend::Copy::to_host);
        values = copy.data();
      }
      for (int64_t k = 0; k < result.shape.elements(); ++k)
        if (const double value = static_cast<double>(values[k]); !std::isfinite(value))
          fail<Error>(op.name, direction, " produced ", value, " at flat index ", k, " of result ", i, " of shape ",
                      result.shape, ", expected finite values");
    });
  }
}

DeviceStream stream_of(Device device) {
  return device.kind == DeviceKind::cpu ? nullptr : backend_of(device).stream(device.index);
}

}  // namespace

Executor& Executor::instance() {
  static Executor& executor = *new Executor;  // stays: at the program's end its device may be gone already
  return executor;
}

// Where moments are wanted, the latest one learns how long the kernel took.
template <class Kernel>
void Executor::run_timed(Device device, const Kernel& kernel) {
  if (!moments) return kernel();
  using Clock = std::chrono::steady_clock;
  synchronize(device);
  const Clock::time_point begun = Clock::now();
  kernel();
  synchronize(device);
  moments->back().seconds = std::chrono::duration<double>(Clock::now() - begun).count();
}

void Executor::forward(const OpDef& op, const ForwardArgs& args, size_t workspace_bytes, const Cost& cost,
                       Device device) {
  Workspace workspace(workspace_bytes, device);
  ForwardArgs with_workspace = args;
  with_workspace.workspace = workspace.block();
  run(op, with_workspace, cost, device);
}

void Executor::run(const OpDef& op, ForwardArgs& args, const Cost& cost, Device device) {
  const auto kernel = kernels_for(op, device).forward;
  require_kernel(op, kernel, device);
  note(args.replay ? Moment::Kind::replay : Moment::Kind::forward, device, &op, cost);
  if (args.replay)
    work.replay_flops += cost.flops;
  else
    work.add(cost);
  if (planning) return;
  args.step = step_on(device);
  args.stream = stream_of(device);
  run_timed(device, [&] { kernel(args); });
  if (check_finite) require_finite(op, "forward", args.outputs, device);
}

void Executor::backward(const OpDef& op, const BackwardArgs& args, size_t workspace_bytes, const Cost& cost,
                        Device device, double recomputed) {
  const auto kernel = kernels_for(op, device).backward;
  require_kernel(op, kernel, device);
  Workspace workspace(workspace_bytes, device);
  BackwardArgs with_workspace = args;
  with_workspace.workspace = workspace.block();
  note(Moment::Kind::backward, device, &op, cost);
  work.add(cost);
  work.flops -= recomputed;
  work.replay_flops += recomputed;
  if (planning) return;
  with_workspace.step = step_on(device);
  with_workspace.stream = stream_of(device);
  run_timed(device, [&] { kernel(with_workspace); });
  if (check_finite) require_finite(op, "backward", args.input_gradients, device);
}

void Executor::note(Moment::Kind kind, Device device, const OpDef* op, const Cost& cost) {
  if (!moments) return;
  const Memory& memory = Memory::of(device);
  moments->push_back(
      {kind, memory.live_bytes(Category::activations), memory.live_bytes(Category::workspace), op, cost});
}

// Kernels on a device read the record from there; it is sent again when it has changed.
const StepRecord* Executor::step_on(Device device) {
  if (device.kind == DeviceKind::cpu) return &step;
  SentStep& sent = sent_steps_[device.index];
  if (!sent.bytes || sent.record != step) {
    if (!sent.bytes) sent.bytes = std::make_unique<Storage>(sizeof step, device, Category::inputs);
    backend_of(device).copy(device.index, sent.bytes->data(), &step, sizeof step, DeviceBackend::Copy::to_device);
    sent.record = step;
  }
  return reinterpret_cast<const StepRecord*>(sent.bytes->data());
}

Device device_of(const OpDef& op, std::span<const Tensor> inputs) {
  const Tensor* first = nullptr;
  for (const Tensor& input : inputs) {
    if (!input) continue;
    if (!first) first = &input;
    if (input.device() != first->device())
      fail<DeviceError>(op.name, "inputs are on ", first->device().str(), " and ", input.device().str(),
                        ", expected one device");
  }
  return first ? first->device() : Device{};
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

std::vector<TensorView> views_of(std::span<const Tensor> tensors) {
  std::vector<TensorView> views;
  views.reserve(tensors.size());  // an optimizer has hundreds
  for (const Tensor& tensor : tensors) views.push_back(view_of(tensor));
  return views;
}

// Without a tape: results live as long as the user's handles, nothing is kept.
std::vector<Tensor> run_untracked(const OpDef& op, std::span<const Tensor> inputs, const Attributes& attributes) {
  Executor& executor = Executor::instance();
  const std::vector<TensorSpec> specs = specs_of(inputs);
  const Signature signature{attributes, specs};
  const Device device = device_of(op, inputs);
  const Layout layout = layout_of(op, signature, device);
  std::vector<Tensor> outputs, auxiliary;
  if (op.view)
    return {Tensor(inputs[0].storage(), layout.outputs[0].shape, inputs[0].dtype(),
                   inputs[0].offset() + layout.view_offset)};
  for (const TensorSpec& spec : layout.outputs)
    outputs.push_back(Tensor::empty(spec.shape, spec.dtype, Category::activations, device));
  for (const TensorSpec& spec : layout.auxiliary)
    auxiliary.push_back(Tensor::empty(spec.shape, spec.dtype, Category::activations, device));
  const std::vector<TensorView> in = views_of(inputs), out = views_of(outputs), aux = views_of(auxiliary);
  ForwardArgs args{.attributes = attributes, .inputs = in, .outputs = out, .auxiliary = aux};
  args.random = executor.random_outside_tapes();
  const Cost cost = op.cost ? op.cost(signature).forward : Cost{};
  executor.forward(op, args, layout.forward_workspace, cost, device);
  if (executor.calls)
    executor.calls->push_back(
        {&op, attributes, {inputs.begin(), inputs.end()}, outputs, auxiliary, layout.forward_workspace, cost});
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
