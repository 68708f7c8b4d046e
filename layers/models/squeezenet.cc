// SqueezeNet 1.0 for ImageNet (Iandola and others, arXiv 1602.07360): a convolution, eight fire modules with pooling
// between, a 1x1 convolution that has a map for each class, and the mean over it.
#include "engine/core/error.h"
#include "engine/ops/concat.h"
#include "engine/ops/dropout.h"
#include "engine/ops/pooling/max_pool2d.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/tape/tape.h"
#include "layers/basic.h"
#include "layers/models/models.h"

namespace parabola {
namespace {

Tensor pooled(const Tensor& x) { return max_pool2d(x, {.kernel = 3, .stride = 2, .ceil_mode = true}); }

// 1x1 to few channels, from them 1x1 and 3x3 to four times as many each, side by side.
class Fire final : public Module {
 public:
  Fire(int in, int squeeze, bool caffe)
      : squeeze_({.in = in, .out = squeeze, .kernel = 1}),
        expand1x1_({.in = squeeze, .out = 4 * squeeze, .kernel = 1}),
        expand3x3_({.in = squeeze, .out = 4 * squeeze, .kernel = 3, .padding = 1}) {
    add(caffe ? "conv1x1_1" : "squeeze", squeeze_);
    add(caffe ? "conv1x1_2" : "expand1x1", expand1x1_);
    add(caffe ? "conv3x3_2" : "expand3x3", expand3x3_);
  }

 private:
  Tensor forward(const Tensor& x) override {
    const CheckpointScope scope("", x);
    const Tensor few = relu(squeeze_(x));
    return concat({relu(expand1x1_(few)), relu(expand3x3_(few))}, -1);
  }
  Conv2d squeeze_, expand1x1_, expand3x3_;
};

// Fire modules 2 to 9; a pooling stands before the first and behind the third and the seventh.
class SqueezeNet final : public Module {
 public:
  SqueezeNet(bool caffe, const ModelOptions& options)
      : stem_({.in = 3, .out = 96, .kernel = 7, .stride = 2}),
        classifier_(
            {.in = 8 * squeezes(options).back(), .out = options.classes, .kernel = 1, .padding = caffe ? 1 : 0}) {
    add(caffe ? "conv1" : "features.0", stem_);
    int in = 96, place = 3;  // torchvision numbers every layer, pooling too
    for (const int squeeze : squeezes(options)) {
      fires_.push_back(std::make_unique<Fire>(in, squeeze, caffe));
      add(caffe ? "fire" + std::to_string(fires_.size() + 1) : "features." + std::to_string(place), *fires_.back());
      place += pooling_behind(fires_.size() - 1) ? 2 : 1;
      in = 8 * squeeze;
    }
    add(caffe ? "conv_final" : "classifier.1", classifier_);
  }

 private:
  static std::vector<int> squeezes(const ModelOptions& options) {
    if (options.widths.empty()) return {16, 16, 32, 32, 48, 48, 64, 64};
    if (options.widths.size() != 3)
      fail<UsageError>("squeezenet1_0", "got ", options.widths.size(), " widths, expected 3");
    return {options.widths[0], options.widths[0], options.widths[1], options.widths[1],
            options.widths[1], options.widths[2], options.widths[2], options.widths[2]};
  }
  static bool pooling_behind(size_t fire) { return fire == 2 || fire == 6; }

  Tensor forward(const Tensor& images) override {
    Tensor x = pooled(relu(stem_(images)));
    for (size_t i = 0; i < fires_.size(); ++i) {
      x = (*fires_[i])(x);
      if (pooling_behind(i)) x = pooled(x);
    }
    if (training()) x = dropout(x, 0.5);
    return global_average_pool(relu(classifier_(x)));
  }
  Conv2d stem_;
  std::vector<std::unique_ptr<Fire>> fires_;
  Conv2d classifier_;
};

}  // namespace

std::unique_ptr<Module> models::squeezenet1_0(bool caffe, const ModelOptions& options) {
  return std::make_unique<SqueezeNet>(caffe, options);
}

}  // namespace parabola
