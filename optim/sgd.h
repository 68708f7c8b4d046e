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
  Sgd(const std::vector<ParameterGroup>& groups, const Options& options);
  Sgd(std::vector<Tensor> parameters, const Options& options)
      : Sgd(std::vector{ParameterGroup{std::move(parameters)}}, options) {}

 private:
  void update(const Update& group) override;
  Options options_;
};

}  // namespace parabola
