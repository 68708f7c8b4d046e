// The tape: a record of the ops applied while it is open, from which gradients are computed and evicted values
// replayed.
//
//   Tape tape({.checkpoint = Checkpoint::blocks, .seed = 1, .step = step});
//   Tensor loss = cross_entropy(model.forward(images), labels);
//   tape.backward(loss);          // gradients of all leaves that require one; frees as it goes
//
// Tensors made while a tape is open must not be used in another tape's ops. The tape belongs to its scope: nothing of
// it survives but the values that the user still holds.
//
// What stays between forward and backward. A value's bytes stay while a Tensor of the user shows them. When the last
// such Tensor is gone, the tape decides: nothing needs them (neither a backward function nor the replay of another
// value) -> dead; its policy is Save -> they stay; Recompute -> evicted, and replayed when backward asks: same kernel,
// same inputs, same random numbers, hence the same bits.
//
// With a memory budget the bytes of activations never exceed it: before an op runs, room is made for all that it needs
// by evicting what can be replayed (budget.cc). Values that a Tensor shows and those marked Save are never taken.
#pragma once
#include <deque>
#include <limits>
#include <string>
#include <unordered_map>

#include "engine/core/op.h"

namespace parabola {

// The run's policy. none: keep all that backward reads, and the richest variant of every op (quadratic ops keep a and
// b). standard ("default" on the command line): the ops' defaults and usual variants; inputs of checkpoint scopes stay.
// blocks: only the inputs of checkpoint scopes stay. automatic ("auto"): what backward reads stays while the budget has
// room, or what the plan says; checkpoint scopes mean nothing.
enum class Checkpoint : uint8_t { none, standard, blocks, automatic };
std::string_view name_of(Checkpoint checkpoint);

constexpr size_t no_budget = std::numeric_limits<size_t>::max();

// What a step is to do: under Checkpoint::automatic node by node (solver.h), and where its blocks lie. Advice: a node
// whose op is another one than the plan's does without, and the budget is kept whatever the plan says.
struct StepPlan {
  struct Choice {
    const OpDef* op;
    Policy policy = Policy::automatic;
    int variant = 0;
  };
  std::vector<Choice> nodes;
  size_t limit = no_budget;  // evict beyond so many bytes, though the budget may have room for more
  ArenaPlan arena = {};      // without places: blocks lie where they fit best
  Device device = {};        // whose arena that is
};

struct TapeOptions {
  Checkpoint checkpoint = Checkpoint::standard;
  uint64_t seed = 0;  // with step and the node's index: the key of every random draw
  uint64_t step = 0;
  // The most activation bytes alive at once on each device. Implies Checkpoint::automatic.
  size_t memory_budget = no_budget;
  std::shared_ptr<const StepPlan> plan = nullptr;
};

struct Node {
  const OpDef* op;
  Attributes attributes;
  std::vector<int> inputs;  // indices of values; -1: absent
  std::vector<int> outputs, auxiliary;
  std::string scope;
  Needs needs;
  uint64_t gradient_mask = 0;  // inputs whose gradient is wanted; 0: no backward
  int variant = 0;
  Policy policy = Policy::save;  // of its outputs
  bool live = false;             // a replay may still be asked for: counted in live_consumers of its inputs
  bool waits = false;            // it has lost a result that is wanted: counted in waiting of its inputs
  StepCost cost;
  double recomputed = 0;  // flops of its backward that the variant which keeps most would spare
};

class Tape final : private StorageOwner {
 public:
  // Becomes the thread's current tape. UsageError for a budget with the policies none or blocks. From then on, all that
  // runs on it may throw a MemoryError that tells why the budget cannot be kept.
  explicit Tape(const TapeOptions& options = {});
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;
  static Tape* current();

  // Gradients of `loss` (one element) with respect to every leaf that requires one; they add to those already there.
  // Once per tape. UsageError where loss is not of this tape or depends on no such leaf.
  void backward(const Tensor& loss);

  const std::deque<Node>& nodes() const { return nodes_; }
  const TapeOptions& options() const { return options_; }
  const Storage& storage_of(int value) const { return *values_[static_cast<size_t>(value)].storage; }
  uint64_t serial() const { return serial_; }
  bool finished() const { return finished_; }  // backward has begun

  // For apply() and CheckpointScope.
  std::vector<Tensor> record(const OpDef& op, std::span<const Tensor> inputs, const Attributes& attributes);
  void keep(const Tensor& tensor);  // an explicit Save for the value, whatever its policy was

 private:
  friend struct StepReport;  // report.h
  struct Value {
    std::shared_ptr<Storage> storage;
    Shape shape;
    DType dtype;
    int64_t offset;
    bool needs_gradient;
    uint64_t version;
    std::shared_ptr<Leaf> leaf;
    Tensor gradient;       // in backward
    bool reached = false;  // by a node's backward, or by its plan
  };
  void announce() const;
  int value_of(const Tensor& tensor);
  int add_value(std::shared_ptr<Storage> storage, const TensorSpec& spec, int64_t offset, bool needs_gradient);
  bool is_open(uint64_t serial) const;  // this tape, or one around it
  const StepPlan::Choice* planned(const OpDef& op) const;
  Policy policy_of(const OpDef& op) const;
  Storage* own(int value) const;  // null: absent, or no result of this tape
  void count_uses(Node& node);
  void unreferenced(Storage& storage) override;
  bool has_gone_by(const Storage& storage) const;
  void update_waiting(Node& node, std::vector<Storage*>& orphans);
  void drop_replay_claims(Node& node, std::vector<Storage*>& orphans);
  void drop_replay_claims_if_unneeded(int node, std::vector<Storage*>& orphans);
  void settle(std::vector<Storage*> storages);

  TensorView view(int value) const;
  std::vector<TensorView> views(const std::vector<int>& values) const;
  std::vector<TensorView> read_views(const std::vector<int>& values, uint64_t mask) const;
  Signature signature_of(const Node& node, std::vector<TensorSpec>& specs) const;
  RandomKey random_of(int node) const;
  void require_version(const Node& node, int value) const;
  void materialize(Storage& storage);
  void replay(int node);

  bool passes_gradient_on(const Node& node, size_t i) const;
  bool added_afterwards(const Node& node, size_t i) const;
  size_t new_gradient_bytes(const Node& node) const;
  void backward_node(int index);
  void finish_node(Node& node);

  // budget.cc
  friend class Locks;
  void use(Storage& storage) { storage.last_use = ++clock_; }
  void make_room(std::string_view who, size_t request, Device device);
  Storage* least_worth(Device device);
  double replay_cost(const Storage& storage, bool is_output);
  bool can_replay(const Node& node) const;
  void require_progress(const Node& node, Device device);
  [[noreturn]] void refuse(std::string_view who, const std::string& what, Device device) const;

  TapeOptions options_;
  uint64_t serial_;
  Tape* previous_;
  bool finished_ = false;
  // Both grow by blocks that every step finds again in the heap, where a vector that doubles would touch fresh pages.
  std::deque<Node> nodes_;
  std::deque<Value> values_;
  std::unordered_multimap<const Storage*, int> leaves_;
  uint64_t clock_ = 0;          // counts uses of storages
  uint64_t replays_ = 0;        // nodes replayed
  std::vector<uint64_t> seen_;  // by node: the last of the searches that came by
  uint64_t searches_ = 0;
};

// A part of the model whose inner values may be dropped under Checkpoint::blocks, since they can be replayed from
// `input`, which stays. Every block of every model is one. Also names the part (see Scope).
class CheckpointScope {
 public:
  CheckpointScope(std::string_view name, const Tensor& input);

 private:
  Scope scope_;
};

}  // namespace parabola
