// Every kind of model at reduced width and depth, with and without adapters: for tests that take all of them through
// training steps.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "layers/adapter.h"
#include "layers/models/models.h"

namespace parabola {

struct SmallNet {
  std::string model;
  std::vector<int> widths = {4, 8, 12}, depths = {1, 1, 1};
  bool adapters = false;

  std::unique_ptr<Module> create(double drop_path, uint64_t seed) const {
    auto made = models::create(model, {.widths = widths, .depths = depths, .drop_path = drop_path}, seed);
    if (adapters) attach_adapters(*made, AdapterOptions{}, seed + 2);
    return made;
  }
};

inline const SmallNet small_nets[] = {
    {"resnet20"},
    {"qresnet14"},
    {"convnext_cifar"},
    {"quadranet_cifar"},
    {"convnext_mnist"},
    {"mlp", {16, 8}, {}},
    {"qmlp", {16, 8}, {}},
    {"squeezenet1_0", {2, 3, 4}, {}},
    {.model = "resnet20", .adapters = true},
    {.model = "convnext_cifar", .adapters = true},
};

}  // namespace parabola
