// Groups of parameters with a learning rate or a weight decay of their own.
//
//   const GroupRule rules[] = {{.match = "*.bias", .weight_decay = 0}, {.match = "head.*", .lr_factor = 10}};
//   AdamW optimizer(parameter_groups(named_trainable(*model), rules), {.lr = 1e-3, .weight_decay = 0.05});
#pragma once
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/core/tensor.h"

namespace parabola {

struct ParameterGroup {
  std::vector<Tensor> parameters;
  double lr_factor = 1;                     // times the optimizer's learning rate
  std::optional<double> weight_decay = {};  // the optimizer's where absent
};

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// The parameters whose full name matches the glob (* crosses dots).
struct GroupRule {
  std::string match;
  double lr_factor = 1;
  std::optional<double> weight_decay = {};
};

// A group for each rule, and a last one for parameters that no rule matches. The first rule that matches decides.
// UsageError: a rule to which no parameter is left.
std::vector<ParameterGroup> parameter_groups(const NamedTensors& parameters, std::span<const GroupRule> rules);

// Layer-wise decay (Clark and others, "ELECTRA", 2020): the last layer learns at the full rate, each one before at
// `decay` times that of the next. Layers are told by name, in the given order: "layer1.0.conv1.weight" belongs to
// "layer1.0", up to the first numbers, "conv1.weight" to "conv1"; what has vectors only (a norm) belongs to the layer
// before. With decay 1 all is one group.
std::vector<ParameterGroup> layer_decay_groups(const NamedTensors& parameters, double decay);

}  // namespace parabola
