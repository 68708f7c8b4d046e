#include "engine/tape/planned_pass.h"

#include <map>

#include "engine/core/arena_plan.h"
#include "engine/core/error.h"
#include "engine/tape/planning.h"
#include "engine/tape/tape.h"

namespace parabola {
namespace {

size_t offset_of(const Tensor& tensor) { return static_cast<size_t>(tensor.offset()) * size_of(tensor.dtype()); }

}  // namespace

PlannedPass::PlannedPass(const std::function<Tensor(const Tensor&)>& forward, const Tensor& x)
    : input_{x.shape(), x.dtype()}, device_(x.device()) {
  if (Tape::current()) fail<UsageError>("planned pass", "a tape is open, which would record the ops, expected none");
  std::vector<UntrackedCall> calls;
  Tensor planned;
  {
    const Planning planning(device_, {.calls = &calls});
    planned = forward(x);
  }
  const Storage* const result = &*planned.storage();
  result_ = {planned.shape(), planned.dtype()};
  result_bytes_ = result->bytes();
  result_offset_ = planned.offset();

  // A value lives from the call that computes it to the last that reads it; the result has a block of its own.
  std::vector<BlockLife> lives;
  std::map<const Storage*, size_t> blocks;
  bool computes_result = false;
  for (size_t i = 0; i < calls.size(); ++i) {
    if (calls[i].op->mutates)
      fail<UsageError>("planned pass", calls[i].op->name, " changes its inputs, expected ops that only compute");
    for (const Tensor& input : calls[i].inputs)
      if (const auto block = input ? blocks.find(&*input.storage()) : blocks.end(); block != blocks.end())
        lives[block->second].end = i + 1;
    for (const auto* list : {&calls[i].outputs, &calls[i].auxiliary})
      for (const Tensor& output : *list) {
        if (&*output.storage() == result) {
          computes_result = true;
          continue;
        }
        blocks.emplace(&*output.storage(), lives.size());
        lives.push_back({output.storage()->bytes(), i, i + 1});
      }
    if (calls[i].workspace > 0) lives.push_back({calls[i].workspace, i, i + 1});
  }
  if (!computes_result) fail<UsageError>("planned pass", "no op computes its result, expected a network");
  const ArenaPlan plan = Memory::of(device_).plan_for({.lives = lives});
  bytes_ = plan.bytes;

  const auto place_of = [&](const Tensor& tensor) -> Place {
    const Storage* const storage = &*tensor.storage();
    if (storage == &*x.storage()) return {From::input, offset_of(tensor) - offset_of(x)};
    if (storage == result) return {From::result, offset_of(tensor)};
    const auto block = blocks.find(storage);
    if (block != blocks.end()) return {From::places, plan.places[block->second].offset + offset_of(tensor)};
    fixed_.push_back(tensor);
    return {};
  };
  size_t next = 0;  // of the blocks, which are numbered by their calls
  for (const UntrackedCall& call : calls) {
    Step step{
        .op = call.op, .attributes = call.attributes, .inputs = call.inputs.size(), .outputs = call.outputs.size()};
    for (const auto* list : {&call.inputs, &call.outputs, &call.auxiliary})
      for (const Tensor& tensor : *list) {
        step.views.push_back(view_of(tensor));
        step.places.push_back(tensor ? place_of(tensor) : Place{});
      }
    for (const auto* list : {&call.outputs, &call.auxiliary})
      for (const Tensor& output : *list) next += &*output.storage() != result;
    step.has_workspace = call.workspace > 0;
    if (step.has_workspace) step.workspace = plan.places[next++].offset;
    step.cost = call.cost;
    steps_.push_back(std::move(step));
  }
}

bool PlannedPass::fits(const Tensor& x) const {
  return x.shape() == input_.shape && x.dtype() == input_.dtype && x.device() == device_;
}

Tensor PlannedPass::operator()(const Tensor& x) {
  if (!fits(x))
    fail<ShapeError>("planned pass", "got ", x.shape(), " of ", name_of(x.dtype()), " on ", x.device().str(),
                     ", expected ", input_.shape, " of ", name_of(input_.dtype), " on ", device_.str());
  Executor& executor = Executor::instance();
  StorageHandle result(std::make_shared<Storage>(result_bytes_, device_, Category::activations));
  const Storage places(bytes_, device_, Category::activations);
  std::byte* const bases[] = {nullptr, x.raw(), places.data(), result->data()};  // by From
  for (Step& step : steps_) {
    for (size_t i = 0; i < step.views.size(); ++i)
      if (const auto [from, offset] = step.places[i]; from != From::fixed)
        step.views[i].pointer = bases[static_cast<size_t>(from)] + offset;
    const std::span<const TensorView> views = step.views;
    ForwardArgs args{.attributes = step.attributes,
                     .inputs = views.first(step.inputs),
                     .outputs = views.subspan(step.inputs, step.outputs),
                     .auxiliary = views.subspan(step.inputs + step.outputs)};
    if (step.has_workspace) args.workspace = places.data() + step.workspace;
    args.random = executor.random_outside_tapes();
    executor.run(*step.op, args, step.cost, device_);
  }
  return Tensor(std::move(result), result_.shape, result_.dtype, result_offset_);
}

}  // namespace parabola
