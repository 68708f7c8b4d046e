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
#pragma once
#include <deque>
#include <string>
#include <unordered_map>

#include "engine/core/op.h"

namespace parabola {

// The run's policy. none: keep all that backward reads, and the richest variant of every op (quadratic ops keep a and
// b). standard ("default" on the command line): the ops' defaults; inputs of checkpoint scopes stay. blocks: only the
// inputs of checkpoint scopes stay.
enum class Checkpoint : uint8_t { none, standard, blocks };
std::string_view name_of(Checkpoint checkpoint);

struct TapeOptions {
  Checkpoint checkpoint = Checkpoint::standard;
  uint64_t seed = 0;  // with step and the node's index: the key of every random draw
  uint64_t step = 0;
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
  bool recompute = false;  // outputs are evicted and replayed
  bool live = false;       // a replay may still be asked for: counted in live_consumers of its inputs
  StepCost cost;
};

class Tape final : private StorageOwner {
 public:
  explicit Tape(const TapeOptions& options = {});  // becomes the thread's current tape
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;
  static Tape* current();

  // Gradients of `loss` (one element) with respect to every leaf that requires one; they add to those already there.
  // Once per tape. UsageError where loss is not of this tape or depends on no such leaf.
  void backward(const Tensor& loss);

  const std::deque<Node>& nodes() const { return nodes_; }
  const TapeOptions& options() const { return options_; }
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
    Tensor gradient;  // in backward
  };
  void announce() const;
  int value_of(const Tensor& tensor);
  int add_value(std::shared_ptr<Storage> storage, const TensorSpec& spec, int64_t offset, bool needs_gradient);
  bool is_open(uint64_t serial) const;  // this tape, or one around it
  bool recomputes(const OpDef& op) const;
  Storage* own(int value) const;  // null: absent, or no result of this tape
  void count_uses(Node& node);
  void unreferenced(Storage& storage) override;
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
  void backward_node(int index);
  void finish_node(Node& node);

  TapeOptions options_;
  uint64_t serial_;
  Tape* previous_;
  bool finished_ = false;
  std::deque<Node> nodes_;
  std::vector<Value> values_;
  std::unordered_multimap<const Storage*, int> leaves_;
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
