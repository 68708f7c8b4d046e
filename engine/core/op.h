// The op contract: what an operation tells the engine about itself. An op is static data (one OpDef) in one file; the
// executor (engine/tape) is the only caller of its kernels. To add one: engine/ops/README.md.
#pragma once
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <vector>

#include "engine/core/device.h"
#include "engine/core/random.h"
#include "engine/core/tensor.h"

namespace parabola {

// Holds an op's own attribute struct by value: any trivially copyable type up to 192 bytes.
class Attributes {
 public:
  Attributes() = default;
  template <class T>
  requires(std::is_trivially_copyable_v<T> && !std::is_same_v<T, Attributes>) Attributes(const T& value)
      : type_(&typeid(T)) {  // implicit, so apply(op, {x}, GeluAttributes{...}) reads well
    static_assert(sizeof(T) <= capacity);
    std::memcpy(bytes_, &value, sizeof(T));
  }
  template <class T>
  const T& get() const {
    PARABOLA_ASSERT(type_ && *type_ == typeid(T));
    return *reinterpret_cast<const T*>(bytes_);
  }

 private:
  static constexpr size_t capacity = 192;
  const std::type_info* type_ = nullptr;
  alignas(16) std::byte bytes_[capacity] = {};
};

struct TensorSpec {
  Shape shape;
  DType dtype = DType::f32;
  bool present = true;  // false for an optional input that is absent
  size_t bytes() const { return present ? static_cast<size_t>(shape.elements()) * size_of(dtype) : 0; }
};

// All that shapes, costs and needs may depend on.
struct Signature {
  const Attributes& attributes;
  std::span<const TensorSpec> inputs;
  uint64_t gradient_mask = 0;  // bit i: the gradient of input i is wanted
  int variant = 0;

  const Shape& shape(int i) const { return inputs[static_cast<size_t>(i)].shape; }
  DType dtype(int i = 0) const { return inputs[static_cast<size_t>(i)].dtype; }
  bool has(int i) const { return static_cast<size_t>(i) < inputs.size() && inputs[static_cast<size_t>(i)].present; }
  bool wants_gradient(int i) const { return gradient_mask >> i & 1; }
};

// What the op produces. Auxiliary results go from forward to backward and are never seen by the user (statistics, a and
// b of a quadratic product). Workspace is scratch of one kernel call, in bytes.
struct Layout {
  std::vector<TensorSpec> outputs;
  std::vector<TensorSpec> auxiliary;
  size_t forward_workspace = 0;
  size_t backward_workspace = 0;
  int64_t view_offset = 0;  // views only: where output 0 begins in input 0, in elements
};

// Analytic cost of a kernel: 2 flops per multiply-add, least bytes moved.
struct Cost {
  double flops = 0, bytes_read = 0, bytes_written = 0;
};
struct StepCost {
  Cost forward, backward;
};

// What backward reads, as bit masks over inputs, outputs, auxiliary results. All else may die after forward.
struct Needs {
  uint64_t inputs = 0, outputs = 0, auxiliary = 0;
};

// What changes from step to step; kernels read it from here (on a GPU, from device memory), so a step can be captured
// once and replayed.
struct StepRecord {
  uint64_t seed = 0;
  uint64_t step = 0;
  double learning_rate = 0;
  int64_t update = 0;  // updates of the optimizer, this one counted (Adam's bias correction)
  bool operator==(const StepRecord&) const = default;
};

// Bytes as a kernel sees them. pointer is null where the tensor is absent or not wanted.
struct TensorView {
  void* pointer = nullptr;
  Shape shape;
  DType dtype = DType::f32;
  explicit operator bool() const { return pointer != nullptr; }
  template <class T>
  T* data() const {
    return static_cast<T*>(pointer);
  }
};

struct ForwardArgs {
  const Attributes& attributes;
  std::span<const TensorView> inputs, outputs, auxiliary;
  std::byte* workspace = nullptr;
  int variant = 0;
  RandomKey random;                  // of this node; the same in a replay
  const StepRecord* step = nullptr;  // in the device's memory
  DeviceStream stream = nullptr;     // CUDA only
  bool replay = false;               // recomputation: write the same bits again, move no running statistics
  bool auxiliary_ready = false;      // in a replay: the auxiliary results are still there and may be used
};

struct BackwardArgs {
  const Attributes& attributes;
  // Pointers are null for what Needs did not name; shapes are always there.
  std::span<const TensorView> inputs, outputs, auxiliary;
  std::span<const TensorView> output_gradients;
  std::span<const TensorView> input_gradients;  // null pointer: not wanted
  uint64_t accumulate = 0;                      // bit i: add to input gradient i; else overwrite it
  std::byte* workspace = nullptr;
  int variant = 0;
  RandomKey random;
  const StepRecord* step = nullptr;
  DeviceStream stream = nullptr;
  bool accumulates(int i) const { return accumulate >> i & 1; }
  bool wants(int i) const { return static_cast<bool>(input_gradients[static_cast<size_t>(i)]); }
};

struct OpDef {
  std::string_view name;
  Layout (*layout)(const Signature&);            // checks shapes and dtypes; throws ShapeError, DTypeError
  StepCost (*cost)(const Signature&) = nullptr;  // null: nothing worth counting
  Needs (*needs)(const Signature&) = nullptr;    // null: backward reads nothing but gradients
  int variants = 1;                              // variant 0 keeps least; the last one keeps most and recomputes least
  int usual_variant = 0;                         // what Checkpoint::standard takes, unless marked recompute
  Policy policy = Policy::save;                  // the default of DESIGN: elementwise and norms recompute
  bool random = false;                           // draws from ForwardArgs::random
  bool view = false;                             // output 0 shares input 0's bytes; forward is not called
  uint64_t mutates = 0;                          // bit i: forward changes input i in place
  // The input whose gradient may lie where output 0's does, if their shapes are the same: backward reads an element of
  // the latter for the last time before it writes that element of the former. -1: none.
  int gradient_in_place = -1;
  uint64_t overwrites = 0;  // bit i: backward cannot add to input gradient i, so what it writes is added afterwards
  uint64_t optional = ~uint64_t{1};  // bit i: input i may be absent; by default all but the first
  struct Kernels {
    void (*forward)(const ForwardArgs&) = nullptr;
    void (*backward)(const BackwardArgs&) = nullptr;  // null: no input can have a gradient
  };
  Kernels cpu;  // CUDA's are in the table below; an op without any raises "[op] has no CUDA kernel"
};

// CUDA kernels are compiled into objects of their own (engine/ops/NAME.cu), which put themselves into this table when
// the program starts, so that no other file has to know whether they were built.
//   const CudaKernels registered(relu_op, {.kernels = {forward, backward}});
class CudaKernels {
 public:
  struct Entry {
    OpDef::Kernels kernels;
    // Scratch in bytes, instead of Layout's, which is the CPU kernels'. Null: none.
    size_t (*forward_workspace)(const Signature&) = nullptr;
    size_t (*backward_workspace)(const Signature&) = nullptr;
    bool half_types = false;  // bf16 and f16 as well
  };
  CudaKernels(const OpDef& op, const Entry& entry);
  static const Entry* of(const OpDef& op);  // null: the op has none
};

// The op's layout with the workspaces of its kernels for `device`.
Layout layout_of(const OpDef& op, const Signature& signature, Device device);

// Runs an op: checks shapes, allocates outputs, calls the kernel and, where a Tape is open, records a node on it.
// Optional inputs are passed as absent tensors. Declared here so that ops can define their user functions; implemented
// in engine/tape.
std::vector<Tensor> apply(const OpDef& op, std::span<const Tensor> inputs, const Attributes& attributes = {});
Tensor apply(const OpDef& op, std::initializer_list<Tensor> inputs, const Attributes& attributes = {});  // output 0

// Sets the policy for the ops applied while it lives; explicit marks win over the run's policy.
class PolicyScope {
 public:
  explicit PolicyScope(Policy policy);
  ~PolicyScope();
  PolicyScope(const PolicyScope&) = delete;
  PolicyScope& operator=(const PolicyScope&) = delete;
  static Policy current();

 private:
  Policy previous_;
};

}  // namespace parabola
