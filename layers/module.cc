#include "layers/module.h"

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"
#include "engine/core/random.h"

namespace parabola {

Init kaiming_uniform(int64_t fan_in) { return {Init::uniform, 1.0 / std::sqrt(static_cast<double>(fan_in))}; }

Tensor Module::operator()(const Tensor& x) {
  const Scope scope(name_);
  return forward(x);
}

void Module::add(std::string_view name, Tensor& parameter, const Shape& shape, Init init, FileLayout layout) {
  parameter = Tensor::full(shape, 0, DType::f32, Category::parameters);
  parameter.set_requires_gradient(true);
  own_.push_back({std::string(name), &parameter, layout, init, false});
}

void Module::add_buffer(std::string_view name, Tensor& buffer, const Shape& shape, double value) {
  buffer = Tensor::full(shape, value, DType::f32, Category::parameters);
  own_.push_back({std::string(name), &buffer, FileLayout::plain, {Init::constant, value}, true});
}

void Module::add(std::string_view name, Module& child) {
  child.name_ = name;
  child.set_training(training_);
  children_.push_back(&child);
}

void Module::remove(const Module& child) { std::erase(children_, &child); }

void Module::fold() {
  if (folded_) return;
  if (training_) fail<UsageError>("fold", "got a model in training mode, expected set_training(false) before");
  for (Module* child : children_) child->fold();
  fold_own();
  for (const Entry& entry : own_)
    if (!entry.buffer) entry.tensor->set_requires_gradient(false);
  folded_ = true;
}

Tensor Module::take(Tensor& tensor) {
  std::erase_if(own_, [&](const Entry& entry) { return entry.tensor == &tensor; });
  return std::exchange(tensor, Tensor());
}

void Module::put(std::string_view name, Tensor& parameter, Tensor value, FileLayout layout) {
  parameter = std::move(value);
  own_.push_back({std::string(name), &parameter, layout, {}, false});
}

std::vector<Module::Entry> Module::tensors() const {
  std::vector<Entry> all = own_;
  for (const Module* child : children_)
    for (Entry& entry : child->tensors()) {
      entry.name = child->name_ + "." + entry.name;
      all.push_back(std::move(entry));
    }
  return all;
}

std::vector<std::pair<std::string, Module*>> Module::modules() {
  std::vector<std::pair<std::string, Module*>> all = {{"", this}};
  for (Module* child : children_)
    for (auto& [name, module] : child->modules())
      all.emplace_back(name.empty() ? child->name_ : child->name_ + "." + name, module);
  return all;
}

void Module::set_training(bool on) {
  if (on && folded_) fail<UsageError>("fold", "a folded model cannot train, expected one that was loaded anew");
  training_ = on;
  for (Module* child : children_) child->set_training(on);
}

namespace {
// Replaces every tensor by its copy for `target`, a dtype or a device; what trains keeps training.
void convert(const Module& module, auto target) {
  for (const Module::Entry& entry : module.tensors()) {
    const bool trained = entry.tensor->requires_gradient();
    *entry.tensor = entry.tensor->to(target, Category::parameters);
    if (!entry.buffer) entry.tensor->set_requires_gradient(trained);
  }
}
}  // namespace

void Module::set_dtype(DType dtype) { convert(*this, dtype); }
void Module::set_device(Device device) {
  if (device_of(*this) != device) convert(*this, device);
}

void Module::initialize(uint64_t seed) {
  uint32_t place = 0;
  for (const Entry& entry : tensors()) {
    Random random({seed, Stream::initialization, 0, place++});
    const Init init = entry.init;
    dispatch_float(entry.tensor->dtype(), "initialize", [&]<class T>() {
      for (T& element : entry.tensor->span<T>()) switch (init.kind) {
          case Init::constant: element = static_cast<T>(init.value); break;
          case Init::uniform:
            element = static_cast<T>(init.value * (2.0 * static_cast<double>(random.uniform()) - 1.0));
            break;
          case Init::normal: element = static_cast<T>(init.value * random.normal()); break;
        }
    });
    ++entry.tensor->storage()->version;
  }
}

int64_t parameter_count(const Module& module, bool trainable_only) {
  int64_t count = 0;
  for (const Module::Entry& entry : module.tensors())
    if (!entry.buffer && (!trainable_only || entry.tensor->requires_gradient())) count += entry.tensor->elements();
  return count;
}

Device device_of(const Module& module) {
  const std::vector<Module::Entry> entries = module.tensors();
  return entries.empty() ? Device{} : entries[0].tensor->device();
}

std::vector<std::pair<std::string, Tensor>> named_trainable(const Module& module) {
  std::vector<std::pair<std::string, Tensor>> named;
  for (const Module::Entry& entry : module.tensors())
    if (!entry.buffer && entry.tensor->requires_gradient()) named.emplace_back(entry.name, *entry.tensor);
  return named;
}

std::vector<Tensor> trainable(const Module& module) {
  std::vector<Tensor> tensors;
  for (const auto& [name, tensor] : named_trainable(module)) tensors.push_back(tensor);
  return tensors;
}

int set_trainable(const Module& module, std::string_view pattern, bool on) {
  int count = 0;
  for (const Module::Entry& entry : module.tensors())
    if (!entry.buffer && matches(pattern, entry.name)) entry.tensor->set_requires_gradient(on), ++count;
  return count;
}

}  // namespace parabola
