// The registry of models: by name, how to build one, what its files and images look like, how it is trained.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "layers/module.h"

namespace parabola {

// How a model is trained where the command line says nothing.
struct Recipe {
  std::string optimizer;  // "sgd", "adamw"
  double learning_rate;
  double momentum = 0;    // of sgd
  bool nesterov = false;  // of its momentum
  double weight_decay = 0;
  std::string schedule = "cosine";  // "constant", "step", "cosine"
  int64_t warmup_steps = 0;         // linear, from 0
  double clip = 0;                  // global norm of the gradient; 0: none
  double layer_decay = 1;           // of the learning rate, from each layer to the one before it
  double ema = 0;                   // decay of the weights' moving average, which is evaluated and saved; 0: none
  double label_smoothing = 0;
  int64_t batch = 128;
  int64_t accumulate = 1;  // batches a step
  int64_t epochs = 1;

  // Steps of the optimizer in an epoch of so many images.
  int64_t steps_per_epoch(int64_t images) const { return (images + batch * accumulate - 1) / (batch * accumulate); }
};

struct ModelOptions {
  int classes = 10;
  std::vector<int> widths = {}, depths = {};  // of the stages; empty: the model's own. For reduced twins in tests
  double drop_path = 0;  // of the last block; grows linearly from 0 over the blocks (ConvNeXt-like nets)
};

struct ModelInfo {
  std::string name;
  std::string summary;        // one line for --list-models
  std::string preprocessing;  // JSON as data/preprocess.h reads it
  Shape image;                // [H, W, C]
  std::string head;           // name of the classifier layer, which trains in adaptation
  Recipe train, adapt;
  double full_learning_rate;  // of `adapt --method full`, which moves the pretrained weights themselves
  std::unique_ptr<Module> (*make)(const ModelOptions& options);
  int classes = 10;  // of the data that it was made for
};

namespace models {

std::span<const ModelInfo> all();
const ModelInfo& info(const std::string& name);  // UsageError where there is none
// A new model with weights drawn from seed.
std::unique_ptr<Module> create(const std::string& name, const ModelOptions& options = {}, uint64_t seed = 0);

// Constructors behind the registry. Parameter counts at 10 classes are in the registry's summaries.
std::unique_ptr<Module> resnet(int blocks_per_stage, const ModelOptions& options);  // CIFAR ResNet, shortcut option A
std::unique_ptr<Module> qresnet14(const ModelOptions& options);                     // QuadraLib's
std::unique_ptr<Module> convnext_tiny(const ModelOptions& options);                 // ConvNeXt-T, as published
std::unique_ptr<Module> convnext(const std::vector<int>& widths, int channels, const ModelOptions& options);
std::unique_ptr<Module> quadranet(const std::vector<int>& widths, const ModelOptions& options);
// caffe: the names of the original files, and a border of one pixel around the last map; else torchvision's.
std::unique_ptr<Module> squeezenet1_0(bool caffe, const ModelOptions& options);
std::unique_ptr<Module> mlp(bool quadratic, const ModelOptions& options);

}  // namespace models
}  // namespace parabola
