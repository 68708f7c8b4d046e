// The memory budget: room is made before an op runs, by evicting what is cheap to replay, large, and long unused (the
// score of DTR: Kirisame and others, "Dynamic Tensor Rematerialization", ICLR 2021).
#include <algorithm>

#include "engine/core/error.h"
#include "engine/core/memory.h"
#include "engine/tape/executor.h"
#include "engine/tape/tape.h"

namespace parabola {
namespace {

// A step that replays more than this many times its nodes is lost in replays of replays.
constexpr uint64_t most_replays_per_node = 20;
constexpr size_t holders_named = 10;

// Flops and bytes count alike, so that an elementwise op, which waits for memory, is not taken for free.
double work_of(const Cost& cost) { return 1 + cost.flops + cost.bytes_read + cost.bytes_written; }

}  // namespace

// Evicts until `request` more bytes have room. A plan's own limit may be exceeded, where shapes are not those that it
// was made for; the budget never.
void Tape::make_room(std::string_view who, size_t request, Device device) {
  const size_t budget = options_.memory_budget;
  const size_t limit = options_.plan ? std::min(budget, options_.plan->limit) : budget;
  if (limit == no_budget) return;
  const Memory& memory = Memory::of(device);
  const auto fits = [&](size_t bytes) { return request <= bytes && memory.activation_bytes() <= bytes - request; };
  while (!fits(limit)) {
    Storage* storage = least_worth(device);
    if (!storage) break;
    storage->evict();
    settle({storage});
    Executor::instance().note(Moment::Kind::eviction, device);
  }
  if (!fits(budget))
    refuse(who, concat(bytes_text(memory.activation_bytes()), " alive and ", bytes_text(request), " to come"), device);
}

// The storage with the least cost / (bytes x age); the first in the tape's order where several have it. Null: all is in
// use, or cannot be computed again.
Storage* Tape::least_worth(Device device) {
  Storage* best = nullptr;
  double least = 0;
  for (const Node& node : nodes_) {
    if (node.op->view || !node.live) continue;
    for (const auto* list : {&node.outputs, &node.auxiliary})
      for (int value : *list) {
        Storage* storage = own(value);
        const bool free = storage->evictable && storage->resident() && storage->bytes() > 0 &&
                          storage->handles() == 0 && storage->locks == 0 && storage->device() == device;
        if (!free || !can_replay(node)) continue;
        const double age = static_cast<double>(clock_ - storage->last_use + 1);
        const double worth =
            replay_cost(*storage, list == &node.outputs) / (static_cast<double>(storage->bytes()) * age);
        if (!best || worth < least) best = storage, least = worth;
      }
  }
  return best;
}

// What it takes to have a result again: its producer's work and that of all evicted ancestors. Nothing for an output of
// a node that will be replayed anyhow; its auxiliary results, while they are there, spare that replay its work.
double Tape::replay_cost(const Storage& target, bool is_output) {
  if (is_output && nodes_[static_cast<size_t>(target.producer)].waits) return 1;
  seen_.resize(nodes_.size());
  ++searches_;
  double cost = 0;
  std::vector<int> open = {target.producer};
  while (!open.empty()) {
    const auto index = static_cast<size_t>(open.back());
    open.pop_back();
    if (std::exchange(seen_[index], searches_) == searches_) continue;
    cost += work_of(nodes_[index].cost.forward);
    for (int value : nodes_[index].inputs)
      if (const Storage* storage = own(value); storage && !storage->resident()) open.push_back(storage->producer);
  }
  return cost;
}

// Whether the node's inputs are what they were; those that it changes itself it does not read in a replay.
bool Tape::can_replay(const Node& node) const {
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (node.inputs[i] < 0 || node.op->mutates >> i & 1) continue;
    const Value& input = values_[static_cast<size_t>(node.inputs[i])];
    if (input.storage->version != input.version) return false;
  }
  return true;
}

void Tape::require_progress(const Node& node, Device device) {
  if (options_.memory_budget == no_budget && !options_.plan) return;
  if (++replays_ > most_replays_per_node * nodes_.size())
    refuse(node.op->name, concat("more than ", most_replays_per_node, " replays an op to keep it"), device);
}

// Throws: what the budget is, what it would take, and who holds how much, and why.
void Tape::refuse(std::string_view who, const std::string& what, Device device) const {
  struct Holder {
    size_t bytes;
    std::string text;
  };
  std::vector<Holder> holders;
  size_t others = Memory::of(device).activation_bytes();
  const auto hold = [&](size_t bytes, const Node& node, const Shape& shape, const char* why) {
    const std::string place = node.scope.empty() ? "" : " of " + node.scope;
    holders.push_back({bytes, concat(bytes_text(bytes), " ", node.op->name, place, " ", shape, ": ", why)});
    others -= bytes;
  };
  for (const Node& node : nodes_)
    for (const auto* list : {&node.outputs, &node.auxiliary})
      for (int index : *list) {
        const Value& value = values_[static_cast<size_t>(index)];
        if (value.gradient && value.gradient.device() == device)
          hold(value.gradient.bytes(), node, value.shape, "gradient");
        const Storage& storage = *value.storage;
        if (node.op->view || !storage.resident() || storage.device() != device) continue;
        hold(storage.bytes(), node, value.shape,
             storage.handles() > 0 ? "shown by a Tensor"
             : storage.locks > 0   ? "read by what runs now"
             : !storage.evictable  ? "marked Save"
             : !can_replay(node)   ? "an input has changed since"
                                   : "kept");
      }
  std::ranges::stable_sort(holders, std::greater(), &Holder::bytes);
  std::string list;
  for (size_t i = 0; i < std::min(holders.size(), holders_named); ++i) list += (i ? ", " : "") + holders[i].text;
  if (others > 0) list += concat(list.empty() ? "" : ", ", bytes_text(others), " outside of the tape");
  fail<MemoryError>(who, "memory budget: got ", what, ", expected at most ", bytes_text(options_.memory_budget),
                    "; held are ", list.empty() ? "no bytes" : list);
}

}  // namespace parabola
