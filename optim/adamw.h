#pragma once
#include "optim/optimizer.h"

namespace parabola {

// AdamW (Loshchilov and Hutter, 2019), as torch.optim.AdamW: weight decay apart from the gradient, bias-corrected
// moments.
class AdamW final : public Optimizer {
 public:
  struct Options {
    double lr = 1e-3, weight_decay = 0;
    double clip = 0;  // largest global norm of the gradients; 0: any
    double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  };
  AdamW(std::vector<Tensor> parameters, const Options& options);

 private:
  void update(std::span<const Tensor> parameters, std::span<const Tensor> gradients) override;
  double beta1_, beta2_, epsilon_, weight_decay_;
};

}  // namespace parabola
