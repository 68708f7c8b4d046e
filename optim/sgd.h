#pragma once
#include "optim/optimizer.h"

namespace parabola {

// Stochastic gradient descent with momentum, as torch.optim.SGD: d = g + λ p; m = μ m + d; p -= lr m. Nesterov's form
// steps as if the momentum had been applied once more: p -= lr (d + μ m). UsageError: that without momentum.
class Sgd final : public Optimizer {
 public:
  struct Options {
    double lr = 0.1, momentum = 0, weight_decay = 0;
    double clip = 0;  // largest global norm of the gradients; 0: any
    bool nesterov = false;
  };
  Sgd(std::vector<Tensor> parameters, const Options& options);

 private:
  void update(std::span<const Tensor> parameters, std::span<const Tensor> gradients) override;
  Options options_;
};

}  // namespace parabola
