// Recording, and what becomes of a value when the user has let it go. backward.cc has the other half.
#include "engine/tape/tape.h"

#include <algorithm>

#include "engine/core/error.h"
#include "engine/tape/executor.h"

namespace parabola {
namespace {
thread_local Tape* current_tape = nullptr;
thread_local uint64_t tapes_made = 0;
}  // namespace

std::string_view name_of(Checkpoint checkpoint) {
  switch (checkpoint) {
    case Checkpoint::none: return "none";
    case Checkpoint::standard: return "default";
    case Checkpoint::blocks: return "blocks";
  }
  return "?";
}

Tape::Tape(const TapeOptions& options) : options_(options), serial_(++tapes_made), previous_(current_tape) {
  current_tape = this;
  Executor::instance().step.seed = options.seed;
  Executor::instance().step.step = options.step;
}

Tape::~Tape() {
  for (Value& value : values_) value.storage->owner = nullptr;
  current_tape = previous_;
}

Tape* Tape::current() { return current_tape; }

// Explicit marks win, then the run's policy, then the op's default.
bool Tape::recomputes(const OpDef& op) const {
  if (PolicyScope::current() != Policy::automatic) return PolicyScope::current() == Policy::recompute;
  switch (options_.checkpoint) {
    case Checkpoint::none: return false;
    case Checkpoint::blocks: return true;
    case Checkpoint::standard: return op.policy == Policy::recompute;
  }
  return false;
}

int Tape::add_value(std::shared_ptr<Storage> storage, const TensorSpec& spec, int64_t offset, bool needs_gradient) {
  const uint64_t version = storage->version;
  values_.push_back({std::move(storage), spec.shape, spec.dtype, offset, needs_gradient, version, nullptr, {}});
  return static_cast<int>(values_.size()) - 1;
}

int Tape::value_of(const Tensor& tensor) {
  if (!tensor) return -1;
  if (tensor.tape() == serial_) return tensor.value();
  Storage& storage = *tensor.storage();
  if (storage.owner && storage.owner != this)
    fail<UsageError>("tape", "this ", tensor.shape(), " tensor was computed on another tape that is still open");
  const auto [first, last] = leaves_.equal_range(&storage);
  for (auto it = first; it != last; ++it) {
    const Value& known = values_[static_cast<size_t>(it->second)];
    if (known.offset == tensor.offset() && known.shape == tensor.shape() && known.dtype == tensor.dtype() &&
        known.version == storage.version && known.leaf == tensor.leaf())
      return it->second;
  }
  const int value = add_value(tensor.storage().shared(), {tensor.shape(), tensor.dtype()}, tensor.offset(),
                              tensor.requires_gradient());
  values_.back().leaf = tensor.leaf();
  leaves_.emplace(&storage, value);
  return value;
}

std::vector<Tensor> Tape::record(const OpDef& op, std::span<const Tensor> inputs, const Attributes& attributes) {
  if (finished_) fail<UsageError>(op.name, "this tape has run backward; open a new one for the next step");
  PARABOLA_ASSERT(inputs.size() <= 64 || !op.cpu.backward);
  Node node{.op = &op, .attributes = attributes, .scope = Scope::current()};
  Device device;
  for (size_t i = 0; i < inputs.size(); ++i) {
    node.inputs.push_back(value_of(inputs[i]));
    if (!inputs[i]) continue;
    device = inputs[i].device();
    if (op.cpu.backward && values_[static_cast<size_t>(node.inputs[i])].needs_gradient)
      node.gradient_mask |= uint64_t{1} << i;
  }
  const bool differentiable = node.gradient_mask != 0;
  node.variant = differentiable && options_.checkpoint == Checkpoint::none ? op.variants - 1 : 0;
  node.recompute = !op.view && recomputes(op);

  const std::vector<TensorSpec> specs = specs_of(inputs);
  const Signature signature{node.attributes, specs, node.gradient_mask, node.variant};
  const Layout layout = op.layout(signature);
  if (op.cost) node.cost = op.cost(signature);
  if (differentiable && op.needs) node.needs = op.needs(signature);

  const int index = static_cast<int>(nodes_.size());
  std::vector<std::shared_ptr<Storage>> results;  // outputs, then auxiliary
  if (op.view) {
    results.push_back(inputs[0].storage().shared());
  } else {
    for (const auto* list : {&layout.outputs, &layout.auxiliary})
      for (const TensorSpec& spec : *list)
        results.push_back(std::make_shared<Storage>(spec.bytes(), device, Category::activations));
    std::vector<TensorView> in, out, auxiliary;
    for (const Tensor& input : inputs) in.push_back(view_of(input));
    for (size_t i = 0; i < results.size(); ++i) {
      const bool is_output = i < layout.outputs.size();
      const TensorSpec& spec = is_output ? layout.outputs[i] : layout.auxiliary[i - layout.outputs.size()];
      (is_output ? out : auxiliary).push_back({results[i]->data(), spec.shape, spec.dtype});
    }
    ForwardArgs args{.attributes = node.attributes, .inputs = in, .outputs = out, .auxiliary = auxiliary};
    args.variant = node.variant;
    args.random = {options_.seed, Stream::node, options_.step, static_cast<uint32_t>(index)};
    Executor::instance().forward(op, args, layout.forward_workspace, node.cost.forward, device);
  }
  for (size_t i = 0; i < inputs.size() && i < 64; ++i)
    if (op.mutates >> i & 1 && inputs[i]) ++inputs[i].storage()->version;

  std::vector<Tensor> outputs;
  for (size_t i = 0; i < layout.outputs.size(); ++i) {
    const TensorSpec& spec = layout.outputs[i];
    if (!op.view) results[i]->owner = this, results[i]->producer = index, results[i]->save = !node.recompute;
    const int64_t offset = op.view ? inputs[0].offset() + layout.view_offset : 0;
    node.outputs.push_back(add_value(results[i], spec, offset, differentiable));
    outputs.push_back(Tensor(StorageHandle(results[i]), spec.shape, spec.dtype, offset, serial_, node.outputs.back()));
  }
  for (size_t i = 0; i < layout.auxiliary.size(); ++i) {
    Storage& storage = *results[layout.outputs.size() + i];
    storage.owner = this;
    storage.producer = index;
    // Statistics are small and spare the replay a pass, so only `blocks`, which promises to keep nothing else, drops
    // them.
    storage.save = options_.checkpoint != Checkpoint::blocks || !node.recompute;
    node.auxiliary.push_back(add_value(results[layout.outputs.size() + i], layout.auxiliary[i], 0, false));
  }
  nodes_.push_back(std::move(node));
  count_uses(nodes_.back());
  for (int value : nodes_.back().auxiliary) settle(*values_[static_cast<size_t>(value)].storage);
  return outputs;
}

void Tape::count_uses(Node& node) {
  const auto storage_of = [&](int value) -> Storage& { return *values_[static_cast<size_t>(value)].storage; };
  node.live = node.recompute;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (node.inputs[i] < 0) continue;
    Storage& storage = storage_of(node.inputs[i]);
    ++storage.pending;
    if (i < 64 && node.needs.inputs >> i & 1) ++storage.reads;
    if (node.live) ++storage.live_consumers;
  }
  for (size_t i = 0; i < node.outputs.size(); ++i)
    if (node.needs.outputs >> i & 1) ++storage_of(node.outputs[i]).reads;
  for (size_t i = 0; i < node.auxiliary.size(); ++i)
    if (node.needs.auxiliary >> i & 1) ++storage_of(node.auxiliary[i]).reads;
}

void Tape::unreferenced(Storage& storage) {
  if (finished_)
    storage.evict();
  else
    settle(storage);
}

// Decides about a storage that no Tensor shows any more: dead, kept, or evicted until backward replays it. A dead value
// of a recomputed node releases the claims that the node's replay had on its inputs, which may settle those in turn.
void Tape::settle(Storage& first) {
  std::vector<Storage*> to_settle = {&first};
  while (!to_settle.empty()) {
    Storage& storage = *to_settle.back();
    to_settle.pop_back();
    if (storage.owner != this || storage.handles() > 0) continue;
    const bool dead = storage.reads == 0 && storage.live_consumers == 0;
    if (dead || !storage.save) storage.evict();
    if (dead) drop_replay_claims(storage.producer, to_settle);
  }
}

void Tape::drop_replay_claims(int index, std::vector<Storage*>& orphans) {
  Node& node = nodes_[static_cast<size_t>(index)];
  if (!node.live) return;
  for (const auto* list : {&node.outputs, &node.auxiliary})
    for (int value : *list) {
      const Storage& storage = *values_[static_cast<size_t>(value)].storage;
      const bool dead = storage.handles() == 0 && storage.reads == 0 && storage.live_consumers == 0;
      if (!dead && !storage.save) return;  // a replay may still be asked for it
      if (!dead && !storage.resident()) return;
    }
  node.live = false;
  for (int value : node.inputs)
    if (value >= 0) {
      Storage& storage = *values_[static_cast<size_t>(value)].storage;
      if (--storage.live_consumers == 0 && storage.reads == 0) orphans.push_back(&storage);
    }
}

void Tape::keep(const Tensor& tensor) {
  Storage& storage = *tensor.storage();
  if (storage.owner != this || storage.save) return;
  storage.save = true;
  std::vector<Storage*> orphans;
  drop_replay_claims(storage.producer, orphans);
  for (Storage* orphan : orphans) settle(*orphan);
}

CheckpointScope::CheckpointScope(std::string_view name, const Tensor& input) : scope_(name) {
  // `none` already keeps what backward reads; keeping more would only cost memory.
  Tape* tape = Tape::current();
  if (tape && tape->options().checkpoint != Checkpoint::none) tape->keep(input);
}

}  // namespace parabola
