// Recording, and what becomes of a value when the user has let it go. backward.cc has the other half.
#include "engine/tape/tape.h"

#include <algorithm>
#include <atomic>

#include "engine/core/error.h"
#include "engine/core/memory.h"
#include "engine/tape/executor.h"

namespace parabola {
namespace {
thread_local Tape* current_tape = nullptr;
std::atomic<uint64_t> tapes_made = 0;  // by all threads: a tensor knows its tape by this number
}  // namespace

std::string_view name_of(Checkpoint checkpoint) {
  switch (checkpoint) {
    case Checkpoint::none: return "none";
    case Checkpoint::standard: return "default";
    case Checkpoint::blocks: return "blocks";
    case Checkpoint::automatic: return "auto";
  }
  return "?";
}

Tape::Tape(const TapeOptions& options) : options_(options), serial_(++tapes_made), previous_(current_tape) {
  if (options.memory_budget != no_budget) {
    if (options.checkpoint == Checkpoint::none || options.checkpoint == Checkpoint::blocks)
      fail<UsageError>("tape", "got a memory budget with the policy ", name_of(options.checkpoint), ", expected auto");
    options_.checkpoint = Checkpoint::automatic;
  }
  if (options_.plan) Memory::of(options_.plan->device).follow(&options_.plan->arena);
  current_tape = this;
  announce();
}

Tape::~Tape() {
  for (Value& value : values_) value.storage->owner = nullptr;
  if (options_.plan) Memory::of(options_.plan->device).follow(nullptr);
  current_tape = previous_;
  if (previous_) previous_->announce();
}

// Kernels on a device draw by the seed and step of the record there.
void Tape::announce() const {
  Executor::instance().step.seed = options_.seed;
  Executor::instance().step.step = options_.step;
}

Tape* Tape::current() { return current_tape; }

bool Tape::is_open(uint64_t serial) const {
  for (const Tape* tape = this; tape; tape = tape->previous_)
    if (tape->serial_ == serial) return true;
  return false;
}

// What the plan says of the node that is recorded next; null where it knows none such.
const StepPlan::Choice* Tape::planned(const OpDef& op) const {
  const bool known = options_.plan && nodes_.size() < options_.plan->nodes.size();
  const StepPlan::Choice* choice = known ? &options_.plan->nodes[nodes_.size()] : nullptr;
  return choice && choice->op == &op ? choice : nullptr;
}

// Explicit marks win, then the run's policy, then the op's default.
Policy Tape::policy_of(const OpDef& op) const {
  if (PolicyScope::current() != Policy::automatic) return PolicyScope::current();
  switch (options_.checkpoint) {
    case Checkpoint::none: return Policy::save;
    case Checkpoint::blocks: return Policy::recompute;
    case Checkpoint::standard: return op.policy == Policy::recompute ? Policy::recompute : Policy::save;
    case Checkpoint::automatic: return planned(op) ? planned(op)->policy : Policy::automatic;
  }
  return Policy::save;
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
  if ((storage.owner && storage.owner != this) || is_open(tensor.tape()))
    fail<UsageError>("tape", "this ", tensor.shape(), " tensor was computed on another tape that is still open");
  if (storage.owner == this)
    fail<UsageError>("tape", "this ", tensor.shape(), " tensor is a view of a result that the tape does not know of, ",
                     "so no gradient would pass it; use view() or reshape() instead of Tensor::view");
  const auto [first, last] = leaves_.equal_range(&storage);
  for (auto it = first; it != last; ++it) {
    const Value& known = values_[static_cast<size_t>(it->second)];
    if (known.offset == tensor.offset() && known.shape == tensor.shape() && known.dtype == tensor.dtype() &&
        known.version == storage.version && known.leaf == tensor.leaf() &&
        known.needs_gradient == tensor.requires_gradient())
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
  constexpr size_t bits_of_masks = 64;
  if (inputs.size() > bits_of_masks)
    fail<UsageError>(op.name, "got ", inputs.size(), " inputs, expected at most ", bits_of_masks);
  Node node{.op = &op, .attributes = attributes, .scope = Scope::current()};
  const Device device = device_of(op, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    node.inputs.push_back(value_of(inputs[i]));
    if (!inputs[i]) continue;
    if (op.cpu.backward && values_[static_cast<size_t>(node.inputs[i])].needs_gradient)
      node.gradient_mask |= uint64_t{1} << i;
  }
  const bool differentiable = node.gradient_mask != 0;
  const bool automatic = options_.checkpoint == Checkpoint::automatic;
  const bool roomy = options_.checkpoint == Checkpoint::none || (automatic && options_.memory_budget == no_budget);
  const bool usual = options_.checkpoint == Checkpoint::standard && PolicyScope::current() != Policy::recompute;
  if (differentiable) node.variant = roomy ? op.variants - 1 : usual ? op.usual_variant : 0;
  if (differentiable && automatic && planned(op)) node.variant = planned(op)->variant;
  if (!op.view) node.policy = policy_of(op);
  const bool evictable = automatic && !op.view && PolicyScope::current() != Policy::save;
  node.live = evictable || node.policy == Policy::recompute;

  const std::vector<TensorSpec> specs = specs_of(inputs);
  const Signature signature{node.attributes, specs, node.gradient_mask, node.variant};
  const Layout layout = layout_of(op, signature, device);
  if (op.cost) node.cost = op.cost(signature);
  if (op.cost && differentiable && node.variant + 1 < op.variants) {
    const Signature richest{node.attributes, specs, node.gradient_mask, op.variants - 1};
    node.recomputed = std::max(0.0, node.cost.backward.flops - op.cost(richest).backward.flops);
  }
  if (differentiable && op.needs) node.needs = op.needs(signature);

  const int index = static_cast<int>(nodes_.size());
  std::vector<std::shared_ptr<Storage>> results;  // outputs, then auxiliary
  if (op.view) {
    results.push_back(inputs[0].storage().shared());
  } else {
    size_t request = layout.forward_workspace;
    for (const auto* list : {&layout.outputs, &layout.auxiliary})
      for (const TensorSpec& spec : *list) request += spec.bytes();
    make_room(op.name, request, device);
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
  for (size_t i = 0; i < inputs.size(); ++i)
    if (op.mutates >> i & 1 && inputs[i]) ++inputs[i].storage()->version;

  std::vector<Tensor> outputs;
  for (size_t i = 0; i < layout.outputs.size(); ++i) {
    const TensorSpec& spec = layout.outputs[i];
    if (!op.view) results[i]->owner = this, results[i]->producer = index, results[i]->policy = node.policy;
    const int64_t offset = op.view ? inputs[0].offset() + layout.view_offset : 0;
    node.outputs.push_back(add_value(results[i], spec, offset, differentiable && is_floating(spec.dtype)));
    outputs.push_back(Tensor(StorageHandle(results[i]), spec.shape, spec.dtype, offset, serial_, node.outputs.back()));
  }
  for (size_t i = 0; i < layout.auxiliary.size(); ++i) {
    Storage& storage = *results[layout.outputs.size() + i];
    storage.owner = this;
    storage.producer = index;
    // Statistics are small and spare the replay a pass, so only `blocks`, which promises to keep nothing else, drops
    // them.
    const bool dropped = options_.checkpoint == Checkpoint::blocks && node.policy == Policy::recompute;
    storage.policy = dropped ? Policy::recompute : Policy::save;
    node.auxiliary.push_back(add_value(results[layout.outputs.size() + i], layout.auxiliary[i], 0, false));
  }
  for (const auto& storage : results) {
    if (op.view) break;
    storage->evictable = evictable;
    use(*storage);
  }
  for (int value : node.inputs)
    if (Storage* storage = own(value)) use(*storage);
  nodes_.push_back(std::move(node));
  count_uses(nodes_.back());
  for (int value : nodes_.back().auxiliary) settle({own(value)});
  return outputs;
}

Storage* Tape::own(int value) const {
  if (value < 0) return nullptr;
  Storage* storage = values_[static_cast<size_t>(value)].storage.get();
  return storage->owner == this ? storage : nullptr;
}

void Tape::count_uses(Node& node) {
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    Storage* storage = own(node.inputs[i]);
    if (!storage) continue;
    if (node.needs.inputs >> i & 1) ++storage->reads;
    if (node.live) ++storage->live_consumers;
  }
  for (size_t i = 0; i < node.outputs.size(); ++i)
    if (Storage* storage = own(node.outputs[i]); storage && node.needs.outputs >> i & 1) ++storage->reads;
  for (size_t i = 0; i < node.auxiliary.size(); ++i)
    if (node.needs.auxiliary >> i & 1) ++own(node.auxiliary[i])->reads;
}

void Tape::unreferenced(Storage& storage) {
  if (finished_)
    storage.evict();
  else
    settle({&storage});
}

// Whether nothing is lost with the bytes for now: what nobody is going to read before one more eviction has happened.
// A plan may have a value stay for replays to come; when backward has begun, all these wait for it.
bool Tape::has_gone_by(const Storage& storage) const {
  return storage.evictable && storage.reads == 0 && storage.waiting == 0 &&
         (storage.policy == Policy::automatic || finished_);
}

// Decides about storages that may have lost their last use: dead, kept, or evicted until backward replays them. A dead
// value of a recomputed node releases the claims that the node's replay had on its inputs, which settles those in turn.
void Tape::settle(std::vector<Storage*> storages) {
  while (!storages.empty()) {
    Storage& storage = *storages.back();
    storages.pop_back();
    if (storage.owner != this || storage.handles() > 0 || storage.locks > 0) continue;
    if (storage.dead() || storage.policy == Policy::recompute || has_gone_by(storage)) storage.evict();
    if (storage.dead()) drop_replay_claims_if_unneeded(storage.producer, storages);
    update_waiting(nodes_[static_cast<size_t>(storage.producer)], storages);
  }
}

// A node whose replay is to come waits for its inputs' bytes.
void Tape::update_waiting(Node& node, std::vector<Storage*>& orphans) {
  bool lacks = false;
  for (const auto* list : {&node.outputs, &node.auxiliary})
    for (int value : *list)
      if (const Storage& storage = *own(value); !storage.resident() && !storage.dead()) lacks = true;
  const bool waits = node.live && lacks;
  if (waits == node.waits) return;
  node.waits = waits;
  for (int value : node.inputs)
    if (Storage* storage = own(value)) {
      storage->waiting += waits ? 1 : -1;
      if (storage->waiting == 0) orphans.push_back(storage);
    }
}

// With a budget, what is resident now may be taken later: only what is dead needs no replay.
void Tape::drop_replay_claims_if_unneeded(int index, std::vector<Storage*>& orphans) {
  Node& node = nodes_[static_cast<size_t>(index)];
  for (const auto* list : {&node.outputs, &node.auxiliary})
    for (int value : *list) {
      const Storage& storage = *own(value);
      const bool stays = storage.resident() && storage.policy == Policy::save && !storage.evictable;
      if (!storage.dead() && !stays) return;
    }
  drop_replay_claims(node, orphans);
}

// Nobody will ask for a replay of the node any more.
void Tape::drop_replay_claims(Node& node, std::vector<Storage*>& orphans) {
  if (!node.live) return;
  node.live = false;
  update_waiting(node, orphans);
  for (int value : node.inputs)
    if (Storage* storage = own(value); storage && --storage->live_consumers == 0) orphans.push_back(storage);
}

void Tape::keep(const Tensor& tensor) {
  Storage& storage = *tensor.storage();
  if (storage.owner != this || storage.policy == Policy::save) return;
  storage.policy = Policy::save;
  std::vector<Storage*> orphans;
  drop_replay_claims_if_unneeded(storage.producer, orphans);
  settle(std::move(orphans));
}

CheckpointScope::CheckpointScope(std::string_view name, const Tensor& input) : scope_(name) {
  // `none` already keeps what backward reads, and under `auto` the plan knows better; more would only cost memory.
  Tape* tape = Tape::current();
  const auto keeps = [](Checkpoint policy) { return policy == Checkpoint::standard || policy == Checkpoint::blocks; };
  if (tape && input && keeps(tape->options().checkpoint)) tape->keep(input);
}

}  // namespace parabola
