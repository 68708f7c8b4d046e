// Module: a part of a model, with named parameters, buffers and children. Names join with dots:
// "layer1.0.conv1.weight".
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/core/glob.h"
#include "engine/core/tensor.h"
#include "engine/io/layout.h"

namespace parabola {

// How a parameter starts. uniform: in [-value, value). normal: mean 0, standard deviation value. (ConvNeXt's
// trunc_normal_ cuts at ±2 in absolute terms, which at its deviation of 0.02 never happens, so normal serves for it.)
struct Init {
  enum Kind : uint8_t { constant, uniform, normal } kind = constant;
  double value = 0;
};

// PyTorch's default for linear and convolution weights and biases: kaiming_uniform(a = sqrt 5), i.e.
// U(±1/sqrt(fan_in)).
Init kaiming_uniform(int64_t fan_in);

class Module {
 public:
  Module() = default;
  Module(const Module&) = delete;  // children and tensors are known by their address
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  // What the module computes. A module calls its children by operator(), which does the same under the child's name, so
  // that errors and tape nodes say where they are.
  virtual Tensor forward(const Tensor& x) = 0;
  Tensor operator()(const Tensor& x);

  struct Entry {
    std::string name;  // full, seen from the module that was asked
    Tensor* tensor;
    FileLayout layout;
    Init init;
    bool buffer;  // not trained: running statistics
  };
  std::vector<Entry> tensors() const;                      // depth first, in order of registration
  std::vector<std::pair<std::string, Module*>> modules();  // the same order; itself first, under the name ""

  bool training() const { return training_; }
  void set_training(bool on);      // UsageError: on, for a folded model
  void initialize(uint64_t seed);  // draws every parameter; each from a sequence of its own, keyed by its place
  void set_dtype(DType dtype);     // converts parameters and buffers (float64 for checks against references)
  void set_device(Device device);  // moves parameters and buffers; before an optimizer is made for them

  // Turns the model, in place, into one that computes the same in evaluation mode with less work, and never trains
  // again: BatchNorm, layer scale and an adapter's scale go into weights, a linear adapter into its layer where its
  // taps are the layer's. What cannot be folded stays. Tensors come and go with that; those that change are new ones.
  // A folded model stays as it is. UsageError in training mode. docs/method.md has the formulas.
  void fold();
  bool folded() const { return folded_; }

 protected:
  const std::string& name() const { return name_; }  // in the parent
  void add(std::string_view name, Tensor& parameter, const Shape& shape, Init init,
           FileLayout layout = FileLayout::plain);
  void add_buffer(std::string_view name, Tensor& buffer, const Shape& shape, double value);
  void add(std::string_view name, Module& child);
  void remove(const Module& child);

  // For fold: what the module itself does, its children being folded already; and the tensors that go and come. A
  // taken tensor is absent then.
  virtual void fold_own() {}
  Tensor take(Tensor& tensor);
  void put(std::string_view name, Tensor& parameter, Tensor value, FileLayout layout = FileLayout::plain);

 private:
  std::string name_;
  std::vector<Entry> own_;
  std::vector<Module*> children_;
  bool training_ = true, folded_ = false;
};

int64_t parameter_count(const Module& module, bool trainable_only = false);  // elements, without buffers
std::vector<Tensor> trainable(const Module& module);                         // parameters that require a gradient
std::vector<std::pair<std::string, Tensor>> named_trainable(const Module& module);  // the same with their full names
Device device_of(const Module& module);  // where its parameters are; the CPU for a module without any
// Switches training on or off for the parameters whose full name matches; returns how many did.
int set_trainable(const Module& module, std::string_view pattern, bool on);

}  // namespace parabola
