// Backward strictly in reverse, freeing as it goes, and the replay of values that were evicted.
#include <algorithm>

#include "engine/core/error.h"
#include "engine/ops/binary.h"
#include "engine/tape/executor.h"
#include "engine/tape/locks.h"

namespace parabola {
namespace {

// target += more, by the kernel of the op add: it goes element by element, so the sum may lie where a term was.
void add_into(const Tensor& target, const Tensor& more) {
  const TensorView inputs[] = {view_of(target), view_of(more)};
  const Attributes none;
  Executor::instance().forward(add_op, {.attributes = none, .inputs = inputs, .outputs = {inputs, 1}}, 0, {},
                               target.device());
}

// A gradient that starts from one value. A plan writes none: there may be no bytes behind it.
Tensor filled(const Shape& shape, double value, DType dtype, Device device) {
  if (Executor::instance().planning) return Tensor::empty(shape, dtype, Category::activations, device);
  return Tensor::full(shape, value, dtype, Category::activations, device);
}

// Whether input i has been one of the inputs before it.
bool is_repeated(const Node& node, size_t i) {
  const auto end = node.inputs.begin() + static_cast<std::ptrdiff_t>(i);
  return std::find(node.inputs.begin(), end, *end) != end;
}

}  // namespace

TensorView Tape::view(int index) const {
  if (index < 0) return {};
  const Value& value = values_[static_cast<size_t>(index)];
  if (!value.storage->resident()) return {nullptr, value.shape, value.dtype};
  return {value.storage->data() + static_cast<size_t>(value.offset) * size_of(value.dtype), value.shape, value.dtype};
}

std::vector<TensorView> Tape::views(const std::vector<int>& values) const {
  std::vector<TensorView> result;
  for (int value : values) result.push_back(view(value));
  return result;
}

// Views for backward: bytes only for what the op said that it reads, so that an op which reads more is caught at once.
std::vector<TensorView> Tape::read_views(const std::vector<int>& values, uint64_t mask) const {
  std::vector<TensorView> result = views(values);
  for (size_t i = 0; i < result.size(); ++i)
    if (!(mask >> i & 1)) result[i].pointer = nullptr;
  return result;
}

RandomKey Tape::random_of(int node) const {
  return {options_.seed, Stream::node, options_.step, static_cast<uint32_t>(node)};
}

Signature Tape::signature_of(const Node& node, std::vector<TensorSpec>& specs) const {
  for (int value : node.inputs)
    specs.push_back(
        value < 0 ? TensorSpec{.present = false}
                  : TensorSpec{values_[static_cast<size_t>(value)].shape, values_[static_cast<size_t>(value)].dtype});
  return {node.attributes, specs, node.gradient_mask, node.variant};
}

void Tape::require_version(const Node& node, int index) const {
  const Value& value = values_[static_cast<size_t>(index)];
  if (value.storage->version != value.version)
    fail<UsageError>(node.op->name, "an input of shape ", value.shape,
                     " was changed in place before backward; step the optimizer after backward");
}

// Computes the node's missing results again, its inputs being there and locked. They now stay until their last use, so
// that no node is replayed twice, but for a budget's sake; what the node has read may have had its last use with this.
void Tape::replay(int index) {
  const Node& node = nodes_[static_cast<size_t>(index)];
  const Scope scope = Scope::reopen(node.scope);
  std::vector<TensorSpec> specs;
  const Device device = values_[static_cast<size_t>(node.outputs[0])].storage->device();
  const Layout layout = layout_of(*node.op, signature_of(node, specs), device);
  require_progress(node, device);
  // Inputs that the op itself changes (running statistics) have moved on in forward, as they should.
  for (size_t i = 0; i < node.inputs.size(); ++i)
    if (node.inputs[i] >= 0 && !(node.op->mutates >> i & 1)) require_version(node, node.inputs[i]);

  size_t request = layout.forward_workspace;
  bool auxiliary_ready = true;
  Locks locks(*this);  // of the results that are there still
  for (const auto* list : {&node.outputs, &node.auxiliary})
    for (int value : *list) {
      Storage& storage = *own(value);
      locks.add(storage);
      if (storage.resident()) continue;
      request += storage.bytes();
      if (list == &node.auxiliary) auxiliary_ready = false;
    }
  make_room(node.op->name, request, device);
  for (const auto* list : {&node.outputs, &node.auxiliary})
    for (int value : *list) {
      Storage& storage = *own(value);
      storage.restore();
      storage.policy = storage.evictable ? Policy::automatic : Policy::save;
    }
  const std::vector<TensorView> inputs = views(node.inputs), outputs = views(node.outputs),
                                auxiliary = views(node.auxiliary);
  ForwardArgs args{.attributes = node.attributes, .inputs = inputs, .outputs = outputs, .auxiliary = auxiliary};
  args.variant = node.variant;
  args.random = random_of(index);
  args.replay = true;
  args.auxiliary_ready = auxiliary_ready;
  Executor::instance().forward(*node.op, args, layout.forward_workspace, node.cost.forward, device);
  std::vector<Storage*> to_settle;
  drop_replay_claims_if_unneeded(index, to_settle);
  update_waiting(nodes_[static_cast<size_t>(index)], to_settle);
  settle(std::move(to_settle));
}

// Makes a value resident by replaying its producer, and before that, without recursion, whatever that one misses. What
// a node on the way reads is locked until the node has run, so that none of it is taken for the sake of the rest.
void Tape::materialize(Storage& target) {
  struct Frame {
    Frame(Tape& tape, int index) : node(index), inputs(tape) {}
    int node;
    Locks inputs;
    size_t next = 0;
  };
  std::deque<Frame> frames;
  const auto open = [&](const Storage& missing) {
    PARABOLA_ASSERT(missing.owner == this);
    frames.emplace_back(*this, missing.producer);
  };
  if (!target.resident()) open(target);
  while (!frames.empty()) {
    Frame& frame = frames.back();
    const std::vector<int>& inputs = nodes_[static_cast<size_t>(frame.node)].inputs;
    if (frame.next < inputs.size()) {
      Storage* input = own(inputs[frame.next]);
      if (input && !input->resident()) {
        open(*input);
      } else {
        if (input) frame.inputs.add(*input);
        ++frame.next;
      }
      continue;
    }
    replay(frame.node);
    frames.pop_back();
  }
}

void Tape::backward(const Tensor& loss) {
  if (finished_) fail<UsageError>("backward", "this tape has run backward already; a tape serves one step");
  if (loss.tape() != serial_) fail<UsageError>("backward", "the loss was not computed on this tape");
  if (loss.elements() != 1)
    fail<ShapeError>("backward", "got a loss of shape ", loss.shape(), ", expected one element");
  Value& root = values_[static_cast<size_t>(loss.value())];
  if (!root.needs_gradient) fail<UsageError>("backward", "the loss depends on no tensor that requires a gradient");
  finished_ = true;
  announce();
  make_room("backward", TensorSpec{root.shape, root.dtype}.bytes(), loss.device());
  root.gradient = filled(root.shape, 1, root.dtype, loss.device());
  for (int index = static_cast<int>(nodes_.size()) - 1; index >= 0; --index) {
    Node& node = nodes_[static_cast<size_t>(index)];
    const bool reached = std::ranges::any_of(
        node.outputs, [&](int value) { return values_[static_cast<size_t>(value)].gradient.defined(); });
    if (node.gradient_mask != 0 && reached) backward_node(index);
    finish_node(node);
  }
}

// Whether input i's gradient takes the bytes of output 0's, which nothing needs after this node.
bool Tape::passes_gradient_on(const Node& node, size_t i) const {
  if (static_cast<int>(i) != node.op->gradient_in_place || is_repeated(node, i)) return false;
  const Value &output = values_[static_cast<size_t>(node.outputs[0])],
              &input = values_[static_cast<size_t>(node.inputs[i])];
  return output.gradient && !input.leaf && !input.gradient && input.shape == output.shape;
}

// Whether the node's backward does not see what input i's gradient holds already: a value that is an input twice (x∘x)
// gets its second gradient apart, so that kernels may assume that no two of their results overlap, and some ops cannot
// add.
bool Tape::added_afterwards(const Node& node, size_t i) const {
  const Value& input = values_[static_cast<size_t>(node.inputs[i])];
  const bool has_gradient = input.leaf ? input.leaf->has_gradient || input.reached : input.gradient.defined();
  return is_repeated(node, i) || (has_gradient && node.op->overwrites >> i & 1);
}

// Gradients of activations that the node's backward brings into being, in bytes.
size_t Tape::new_gradient_bytes(const Node& node) const {
  size_t bytes = 0;
  const auto add = [&](const Value& value) { bytes += TensorSpec{value.shape, value.dtype}.bytes(); };
  for (int index : node.outputs)
    if (const Value& output = values_[static_cast<size_t>(index)]; output.needs_gradient && !output.gradient)
      add(output);
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (!(node.gradient_mask >> i & 1)) continue;
    const Value& input = values_[static_cast<size_t>(node.inputs[i])];
    if (passes_gradient_on(node, i)) continue;
    if (added_afterwards(node, i) || (!input.leaf && !input.gradient)) add(input);
  }
  return bytes;
}

void Tape::backward_node(int index) {
  const Node& node = nodes_[static_cast<size_t>(index)];
  const Scope scope = Scope::reopen(node.scope);
  Locks locks(*this);
  const auto need = [&](const std::vector<int>& values, uint64_t mask) {
    for (size_t i = 0; i < values.size(); ++i)
      if (values[i] >= 0 && mask >> i & 1) {
        if (!(&values == &node.inputs && node.op->mutates >> i & 1)) require_version(node, values[i]);
        Storage& storage = *values_[static_cast<size_t>(values[i])].storage;
        materialize(storage);
        if (storage.owner == this) locks.add(storage);
      }
  };
  need(node.inputs, node.needs.inputs);
  need(node.outputs, node.needs.outputs);
  need(node.auxiliary, node.needs.auxiliary);

  std::vector<TensorSpec> specs;
  const Device device = values_[static_cast<size_t>(node.outputs[0])].storage->device();
  const Layout layout = layout_of(*node.op, signature_of(node, specs), device);
  make_room(node.op->name, layout.backward_workspace + new_gradient_bytes(node), device);

  std::vector<TensorView> output_gradients, input_gradients;
  for (int value : node.outputs) {
    Value& output = values_[static_cast<size_t>(value)];
    if (!output.needs_gradient) {  // an integer
      output_gradients.push_back({nullptr, output.shape, output.dtype});
      continue;
    }
    if (!output.gradient) output.gradient = filled(output.shape, 0, output.dtype, output.storage->device());
    output_gradients.push_back(view_of(output.gradient));
  }

  // Where the gradient of each input goes. What is added afterwards has a buffer of its own.
  uint64_t accumulate = 0;
  std::vector<std::pair<Tensor, Tensor>> addends;  // with their targets first
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (!(node.gradient_mask >> i & 1)) {
      input_gradients.push_back({});
      continue;
    }
    Value& input = values_[static_cast<size_t>(node.inputs[i])];
    const bool is_leaf = input.leaf != nullptr;
    Tensor& gradient = is_leaf ? input.leaf->gradient : input.gradient;
    const bool has_gradient = is_leaf ? input.leaf->has_gradient : gradient.defined();
    if (added_afterwards(node, i)) {
      addends.emplace_back(gradient,
                           Tensor::empty(input.shape, input.dtype, Category::activations, input.storage->device()));
      input_gradients.push_back(view_of(addends.back().second));
      continue;
    }
    if (passes_gradient_on(node, i)) gradient = values_[static_cast<size_t>(node.outputs[0])].gradient;
    if (!gradient)
      gradient = Tensor::empty(input.shape, input.dtype, is_leaf ? Category::gradients : Category::activations,
                               input.storage->device());
    if (has_gradient) accumulate |= uint64_t{1} << i;
    input_gradients.push_back(view_of(gradient));
  }

  const std::vector<TensorView> inputs = read_views(node.inputs, node.needs.inputs),
                                outputs = read_views(node.outputs, node.needs.outputs),
                                auxiliary = read_views(node.auxiliary, node.needs.auxiliary);
  BackwardArgs args{.attributes = node.attributes,
                    .inputs = inputs,
                    .outputs = outputs,
                    .auxiliary = auxiliary,
                    .output_gradients = output_gradients,
                    .input_gradients = input_gradients,
                    .accumulate = accumulate};
  args.variant = node.variant;
  args.random = random_of(index);
  Executor::instance().backward(*node.op, args, layout.backward_workspace, node.cost.backward, device, node.recomputed);
  for (const auto& [target, addend] : addends) add_into(target, addend);
  for (size_t i = 0; i < node.inputs.size(); ++i)
    if (node.gradient_mask >> i & 1) values_[static_cast<size_t>(node.inputs[i])].reached = true;
  // Only now, and not where no kernel ran: the gradient would show what happened to lie in its memory.
  if (Executor::instance().planning) return;
  for (int value : node.inputs)
    if (value >= 0 && values_[static_cast<size_t>(value)].needs_gradient)
      if (Leaf* leaf = values_[static_cast<size_t>(value)].leaf.get()) leaf->has_gradient = true;
}

// The node is done: its inputs have one use less, and nothing after it needs its results.
void Tape::finish_node(Node& node) {
  std::vector<Storage*> to_settle;
  for (size_t i = 0; i < node.inputs.size(); ++i)
    if (Storage* storage = own(node.inputs[i])) {
      if (node.needs.inputs >> i & 1) --storage->reads;
      to_settle.push_back(storage);
    }
  drop_replay_claims(node, to_settle);
  settle(std::move(to_settle));
  for (int value : node.outputs) values_[static_cast<size_t>(value)].gradient = Tensor();
  if (node.op->view) return;
  for (const auto* list : {&node.outputs, &node.auxiliary})
    for (int value : *list)
      if (own(value)->handles() == 0) own(value)->evict();
}

}  // namespace parabola
