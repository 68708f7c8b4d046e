// Three fully connected layers with ReLU between, on 28x28 grey images: quadratic, or first order with the same widths.
#include "engine/ops/relu.h"
#include "engine/ops/view.h"
#include "engine/tape/tape.h"
#include "layers/basic.h"
#include "layers/models/models.h"
#include "layers/quadratic.h"

namespace parabola {
namespace {

template <class Layer>
class Mlp final : public Module {
 public:
  explicit Mlp(const std::vector<int>& widths) {
    for (size_t i = 0; i + 1 < widths.size(); ++i) {
      layers_.push_back(std::make_unique<Layer>(widths[i], widths[i + 1]));
      add("q." + std::to_string(i), *layers_.back());
    }
  }

 private:
  Tensor forward(const Tensor& images) override {
    const Shape& shape = images.shape();
    Tensor x = shape.rank() == 2 ? images : reshape(images, Shape{shape[0], shape.product(1, shape.rank())});
    for (size_t i = 0; i < layers_.size(); ++i) {
      const CheckpointScope scope("", x);
      x = (*layers_[i])(x);
      if (i + 1 < layers_.size()) x = relu(x);
    }
    return x;
  }
  std::vector<std::unique_ptr<Layer>> layers_;
};

}  // namespace

std::unique_ptr<Module> models::mlp(bool quadratic, const ModelOptions& options) {
  std::vector<int> widths = {784};
  const std::vector<int> hidden = options.widths.empty() ? std::vector<int>{512, 512} : options.widths;
  widths.insert(widths.end(), hidden.begin(), hidden.end());
  widths.push_back(options.classes);
  if (quadratic) return std::make_unique<Mlp<QuadraticLinear>>(widths);
  return std::make_unique<Mlp<Linear>>(widths);
}

}  // namespace parabola
