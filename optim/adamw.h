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
  AdamW(const std::vector<ParameterGroup>& groups, const Options& options);
  AdamW(std::vector<Tensor> parameters, const Options& options)
      : AdamW(std::vector{ParameterGroup{std::move(parameters)}}, options) {}

 private:
  void update(const Update& group) override;
  Options options_;
};

}  // namespace parabola
