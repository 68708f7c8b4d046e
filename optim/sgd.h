#pragma once
#include "optim/optimizer.h"

namespace parabola {

// Stochastic gradient descent with momentum, as torch.optim.SGD: d = g + λ p; m = μ m + d; p -= lr m.
class Sgd final : public Optimizer {
 public:
  struct Options : OptimizerOptions {
    double momentum = 0;
  };
  Sgd(std::vector<Tensor> parameters, const Options& options);

 private:
  void update(std::span<const Tensor> parameters, std::span<const Tensor> gradients) override;
  double momentum_;
};

}  // namespace parabola
