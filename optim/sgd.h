#pragma once
#include "optim/optimizer.h"

namespace parabola {

// Stochastic gradient descent with momentum, as torch.optim.SGD: d = g + λ p; m = μ m + d; p -= lr m.
class Sgd final : public Optimizer {
 public:
  struct Options {
    double lr = 0.1, momentum = 0, weight_decay = 0;
    double clip = 0;  // largest global norm of the gradients; 0: any
  };
  Sgd(std::vector<Tensor> parameters, const Options& options);

 private:
  void update(std::span<const Tensor> parameters, std::span<const Tensor> gradients) override;
  double momentum_, weight_decay_;
};

}  // namespace parabola
