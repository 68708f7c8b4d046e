// ConvNeXt (Liu and others, 2022) and QuadraNet V1 (arXiv 2311.17956): a stem that turns patches into pixels, 4x4 ones
// as published or 2x2 for small images; stages, LayerNorm + 2x2 stride 2 between them; mean, LayerNorm, linear. Names
// are those of the official ConvNeXt.
#include "engine/ops/binary.h"
#include "engine/ops/dropout.h"
#include "engine/ops/reduce.h"
#include "engine/tape/tape.h"
#include "layers/basic.h"
#include "layers/chain.h"
#include "layers/models/models.h"
#include "layers/quadratic.h"

namespace parabola {
namespace {

constexpr Init layer_scale_init{Init::constant, 1e-6};

// Pixels of patches that do not overlap.
Conv2dOptions patches(int in, int out, int size) {
  return {.in = in, .out = out, .kernel = size, .stride = size, .init = WeightInit::convnext};
}

// The end of a block, for chain(): x + drop_path(scale ∘ Linear(GELU(Linear branch))). No scale: it is folded into the
// second layer.
auto to_the_end(const Tensor& x, Linear& first, Linear& second, const Tensor& scale, double drop) {
  return [&, drop](const Tensor& branch) {
    return drop > 0 ? x + drop_path(mlp(first, second, branch, scale), drop) : mlp(first, second, branch, scale, x);
  };
}

// x + γ Linear(GELU(Linear(LN(dw7x7 x)))).
class ConvNeXtBlock final : public Module {
 public:
  ConvNeXtBlock(int width, double drop)
      : drop_(drop),
        dwconv_({.in = width, .out = width, .kernel = 7, .padding = 3, .groups = width, .init = WeightInit::convnext}),
        norm_(width),
        pwconv1_(width, 4 * width, true, WeightInit::convnext),
        pwconv2_(4 * width, width, true, WeightInit::convnext) {
    add("dwconv", dwconv_);
    add("norm", norm_);
    add("pwconv1", pwconv1_);
    add("pwconv2", pwconv2_);
    add("gamma", gamma_, Shape{width}, layer_scale_init);
  }

 private:
  Tensor forward(const Tensor& x) override {
    const CheckpointScope scope("", x);
    return chain(x, dwconv_, norm_, to_the_end(x, pwconv1_, pwconv2_, gamma_, training() ? drop_ : 0));
  }
  void fold_own() override { pwconv2_.scale_outputs(values_of(take(gamma_))); }
  double drop_;
  Conv2d dwconv_;
  LayerNorm norm_;
  Linear pwconv1_, pwconv2_;
  Tensor gamma_;
};

// x + γ1 Quadratic(LN x), then x + γ2 Linear(GELU(Linear(LN x))).
class QuadraNetBlock final : public Module {
 public:
  QuadraNetBlock(int width, double drop)
      : drop_(drop),
        norm1_(width),
        norm2_(width),
        mix_(width, 7),
        pwconv1_(width, 4 * width, true, WeightInit::convnext),
        pwconv2_(4 * width, width, true, WeightInit::convnext) {
    add("norm1", norm1_);
    add("mix", mix_);
    add("gamma1", gamma1_, Shape{width}, layer_scale_init);
    add("norm2", norm2_);
    add("pwconv1", pwconv1_);
    add("pwconv2", pwconv2_);
    add("gamma2", gamma2_, Shape{width}, layer_scale_init);
  }

 private:
  Tensor forward(const Tensor& x) override {
    const CheckpointScope scope("", x);
    const double drop = training() ? drop_ : 0;
    const Tensor mixed = chain(
        x, norm1_, [&](const Tensor& normed) { return mix_.scaled(normed, gamma1_); },
        [&](const Tensor& branch) { return x + (drop > 0 ? drop_path(branch, drop) : branch); });
    return chain(mixed, norm2_, to_the_end(mixed, pwconv1_, pwconv2_, gamma2_, drop));
  }
  void fold_own() override {
    mix_.scale_outputs(values_of(take(gamma1_)));
    pwconv2_.scale_outputs(values_of(take(gamma2_)));
  }
  double drop_;
  LayerNorm norm1_, norm2_;
  QuadraticDepthwise mix_;
  Linear pwconv1_, pwconv2_;
  Tensor gamma1_, gamma2_;
};

template <class Block>
class StageNet final : public Module {
 public:
  StageNet(const std::vector<int>& widths, const std::vector<int>& depths, int channels, int stem,
           const ModelOptions& options)
      : norm_(widths.back()), head_(widths.back(), options.classes, true, WeightInit::convnext) {
    int blocks = 0, made = 0;
    for (int depth : depths) blocks += depth;
    for (size_t i = 0; i < widths.size(); ++i) {
      Stage& stage = stages_.emplace_back();
      const std::string prefix = "downsample_layers." + std::to_string(i);
      // The stem convolves first and normalises then; the others the other way round.
      stage.conv =
          std::make_unique<Conv2d>(i == 0 ? patches(channels, widths[0], stem) : patches(widths[i - 1], widths[i], 2));
      stage.norm = std::make_unique<LayerNorm>(i == 0 ? widths[0] : widths[i - 1]);
      add(prefix + (i == 0 ? ".0" : ".1"), *stage.conv);
      add(prefix + (i == 0 ? ".1" : ".0"), *stage.norm);
      for (int j = 0; j < depths[i]; ++j, ++made) {
        const double drop = blocks > 1 ? options.drop_path * made / (blocks - 1) : 0;
        stage.blocks.push_back(std::make_unique<Block>(widths[i], drop));
        add("stages." + std::to_string(i) + "." + std::to_string(j), *stage.blocks.back());
      }
    }
    add("norm", norm_);
    add("head", head_);
  }

 private:
  struct Stage {
    std::unique_ptr<Conv2d> conv;
    std::unique_ptr<LayerNorm> norm;
    std::vector<std::unique_ptr<Block>> blocks;
  };
  Tensor forward(const Tensor& images) override {
    Tensor x = images;
    for (size_t i = 0; i < stages_.size(); ++i) {
      Stage& stage = stages_[i];
      x = i == 0 ? (*stage.norm)((*stage.conv)(x)) : (*stage.conv)((*stage.norm)(x));
      for (const auto& block : stage.blocks) x = (*block)(x);
    }
    return head_(norm_(global_average_pool(x)));
  }
  std::vector<Stage> stages_;
  LayerNorm norm_;
  Linear head_;
};

template <class Block>
std::unique_ptr<Module> build(const std::vector<int>& widths, std::vector<int> depths, int channels, int stem,
                              const ModelOptions& options) {
  const std::vector<int>& w = options.widths.empty() ? widths : options.widths;
  if (!options.depths.empty()) depths = options.depths;
  depths.resize(w.size(), 2);
  return std::make_unique<StageNet<Block>>(w, depths, channels, stem, options);
}

}  // namespace

std::unique_ptr<Module> models::convnext_tiny(const ModelOptions& options) {
  return build<ConvNeXtBlock>({96, 192, 384, 768}, {3, 3, 9, 3}, 3, 4, options);
}
std::unique_ptr<Module> models::convnext(const std::vector<int>& widths, int channels, const ModelOptions& options) {
  return build<ConvNeXtBlock>(widths, {}, channels, 2, options);
}
std::unique_ptr<Module> models::quadranet(const std::vector<int>& widths, const ModelOptions& options) {
  return build<QuadraNetBlock>(widths, {}, 3, 2, options);
}

}  // namespace parabola
