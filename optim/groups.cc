#include "optim/groups.h"

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"
#include "engine/core/glob.h"

namespace parabola {
namespace {

// "stages.0.1.norm.weight" -> "stages.0.1"; "head.weight" -> "head".
std::string_view layer_of(std::string_view name) {
  const auto number_behind = [&](size_t dot) {
    return dot + 1 < name.size() && name[dot + 1] >= '0' && name[dot + 1] <= '9';
  };
  const auto next = [&](size_t dot) { return std::min(name.find('.', dot + 1), name.size()); };
  const size_t first = std::min(name.find('.'), name.size());
  size_t end = first;
  while (end < name.size() && !number_behind(end)) end = next(end);
  if (end == name.size()) return name.substr(0, first);
  while (number_behind(end)) end = next(end);
  return name.substr(0, end);
}

}  // namespace

std::vector<ParameterGroup> parameter_groups(const NamedTensors& parameters, std::span<const GroupRule> rules) {
  std::vector<ParameterGroup> groups;
  for (const GroupRule& rule : rules) groups.push_back({{}, rule.lr_factor, rule.weight_decay});
  groups.emplace_back();
  for (const auto& [name, tensor] : parameters) {
    size_t place = 0;
    while (place < rules.size() && !matches(rules[place].match, name)) ++place;
    groups[place].parameters.push_back(tensor);
  }
  for (size_t i = 0; i < rules.size(); ++i)
    if (groups[i].parameters.empty())
      fail<UsageError>("parameter_groups", "no parameter is left for '", printable(rules[i].match),
                       "', expected a glob over full names that matches one");
  if (groups.back().parameters.empty()) groups.pop_back();
  return groups;
}

std::vector<ParameterGroup> layer_decay_groups(const NamedTensors& parameters, double decay) {
  const auto has_matrix = [&](std::string_view layer) {
    return std::ranges::any_of(parameters, [&](const auto& named) {
      return layer_of(named.first) == layer && named.second.shape().rank() > 1;
    });
  };
  std::vector<ParameterGroup> layers;
  std::string_view last;
  for (const auto& [name, tensor] : parameters) {
    const std::string_view layer = layer_of(name);
    if (layers.empty() || (decay != 1 && layer != last && has_matrix(layer))) layers.emplace_back();
    last = layer;
    layers.back().parameters.push_back(tensor);
  }
  for (size_t i = 0; i < layers.size(); ++i)
    layers[i].lr_factor = std::pow(decay, static_cast<double>(layers.size() - 1 - i));
  return layers;
}

}  // namespace parabola
