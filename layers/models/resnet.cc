// Residual networks for 32x32 images. First order: He and others, "Deep residual learning" (2016), section 4.2, with
// shortcut option A. Quadratic: QResNet14 of QuadraLib, whose layer is (BN A*x)∘(BN B*x) + (BN C*x).
#include "engine/ops/pad.h"
#include "engine/ops/reduce.h"
#include "engine/ops/slice.h"
#include "engine/tape/tape.h"
#include "layers/basic.h"
#include "layers/models/models.h"
#include "layers/quadratic.h"

namespace parabola {
namespace {

Conv2dOptions conv3x3(int in, int out, int stride) {
  return {.in = in, .out = out, .kernel = 3, .stride = stride, .padding = 1, .bias = false};
}

// Option A, where a block changes the shape: every second row and column, new channels zero. No parameters.
Tensor shortcut_a(const Tensor& x, int in, int out, int stride) {
  const Tensor thinned = slice(slice(x, 1, 0, x.shape()[1], stride), 2, 0, x.shape()[2], stride);
  const int64_t before = (out - in) / 2, after = out - in - before;
  return pad(thinned, {0, 0, 0, before}, {0, 0, 0, after});
}

// What a block reads: x or, where a norm before it is left to the block, max(0, norm(x) + residual).
struct BlockInput {
  Tensor x;
  BatchNorm* norm = nullptr;
  Tensor residual = {};  // absent: none
  Tensor made() const { return norm ? norm->relu(x, residual) : x; }
};

class BasicBlock final : public Module {
 public:
  BasicBlock(int in, int out, int stride)
      : in_(in),
        out_(out),
        stride_(stride),
        conv1_(conv3x3(in, out, stride)),
        conv2_(conv3x3(out, out, 1)),
        bn1_(out),
        bn2_(out) {
    add("conv1", conv1_);
    add("bn1", bn1_);
    add("conv2", conv2_);
    add("bn2", bn2_);
  }
  // Returns what `next` (null: none) reads. The sum that ends a block need not be kept where the next one's conv1 makes
  // it, but its residual then must: this pays where that is this block's own input, kept anyway since conv1 reads it
  // and its checkpoint begins with it (so the next block's can be replayed too).
  BlockInput run(BlockInput input, const BasicBlock* next) {
    if (input.norm && !conv1_.has_inside(*input.norm)) input = {input.made()};
    const bool leaves = !input.norm && keeps_shape() && next && next->keeps_shape() && next->conv1_.has_inside(bn2_);
    const Scope scope(name());
    BlockInput sum = unmade_sum(std::move(input));
    if (leaves) return sum;
    return {sum.made()};
  }

 private:
  Tensor forward(const Tensor& x) override { return unmade_sum({x}).made(); }
  BlockInput unmade_sum(BlockInput input) {
    const CheckpointScope scope("", input.x);
    Tensor x = input.x;
    Tensor y = input.norm ? conv1_.of_normed(std::move(input.x), *input.norm, input.residual, &x) : conv1_(x);
    input = {};  // a policy may drop what it was, from now on
    y = conv2_.of_normed(std::move(y), bn1_);
    return {std::move(y), &bn2_, keeps_shape() ? x : shortcut_a(x, in_, out_, stride_)};
  }
  bool keeps_shape() const { return stride_ == 1 && in_ == out_; }
  void fold_own() override {
    absorb(bn1_.take_map(), conv1_);
    absorb(bn2_.take_map(), conv2_);
  }
  int in_, out_, stride_;
  Conv2d conv1_, conv2_;
  BatchNorm bn1_, bn2_;
};

class QuadraticBlock final : public Module {
 public:
  QuadraticBlock(int in, int out, int stride)
      : conv1_(in, out, 3, stride, 1), conv2_(out, out, 3, 1, 1), bn1_(out), bn2_(out) {
    add("conv1", conv1_);
    add("bn1", bn1_);
    add("conv2", conv2_);
    add("bn2", bn2_);
    if (stride == 1 && in == out) return;
    shortcut_ =
        std::make_unique<Conv2d>(Conv2dOptions{.in = in, .out = out, .kernel = 1, .stride = stride, .bias = false});
    shortcut_bn_ = std::make_unique<BatchNorm>(out);
    add("downsample.0", *shortcut_);
    add("downsample.1", *shortcut_bn_);
  }
  BlockInput run(BlockInput input, const QuadraticBlock* /*next*/) {
    input = {input.made()};
    return {(*this)(input.x)};
  }

 private:
  Tensor forward(const Tensor& x) override {
    const CheckpointScope scope("", x);
    Tensor y = conv1_.normed(x, bn1_);
    const Tensor residual = shortcut_ ? (*shortcut_bn_)((*shortcut_)(x)) : x;
    return conv2_.normed(std::move(y), bn2_, residual);
  }
  void fold_own() override {
    absorb(bn1_.take_map(), conv1_);
    absorb(bn2_.take_map(), conv2_);
    if (shortcut_) absorb(shortcut_bn_->take_map(), *shortcut_);
  }
  QuadraticConv2dNormed conv1_, conv2_;
  BatchNorm bn1_, bn2_;
  std::unique_ptr<Conv2d> shortcut_;
  std::unique_ptr<BatchNorm> shortcut_bn_;
};

template <class Block>
class ResNet final : public Module {
 public:
  ResNet(const std::vector<int>& widths, const std::vector<int>& depths, int classes)
      : conv1_(conv3x3(3, widths[0], 1)), bn1_(widths[0]), linear_(widths.back(), classes) {
    add("conv1", conv1_);
    add("bn1", bn1_);
    int in = widths[0];
    for (size_t stage = 0; stage < widths.size(); ++stage)
      for (int block = 0; block < depths[stage]; ++block) {
        blocks_.push_back(std::make_unique<Block>(in, widths[stage], stage > 0 && block == 0 ? 2 : 1));
        add("layer" + std::to_string(stage + 1) + "." + std::to_string(block), *blocks_.back());
        in = widths[stage];
      }
    add("linear", linear_);
  }

 private:
  Tensor forward(const Tensor& images) override {
    BlockInput x{conv1_(images), &bn1_};
    for (size_t i = 0; i < blocks_.size(); ++i)
      x = blocks_[i]->run(std::move(x), i + 1 < blocks_.size() ? blocks_[i + 1].get() : nullptr);
    return linear_(global_average_pool(x.made()));
  }
  void fold_own() override { absorb(bn1_.take_map(), conv1_); }
  Conv2d conv1_;
  BatchNorm bn1_;
  std::vector<std::unique_ptr<Block>> blocks_;
  Linear linear_;
};

template <class Block>
std::unique_ptr<Module> build(int blocks, const ModelOptions& options) {
  const std::vector<int> widths = options.widths.empty() ? std::vector<int>{16, 32, 64} : options.widths;
  const std::vector<int> depths = options.depths.empty() ? std::vector<int>(widths.size(), blocks) : options.depths;
  return std::make_unique<ResNet<Block>>(widths, depths, options.classes);
}

}  // namespace

std::unique_ptr<Module> models::resnet(int blocks_per_stage, const ModelOptions& options) {
  return build<BasicBlock>(blocks_per_stage, options);
}
std::unique_ptr<Module> models::qresnet14(const ModelOptions& options) { return build<QuadraticBlock>(2, options); }

}  // namespace parabola
