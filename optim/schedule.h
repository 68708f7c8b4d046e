// The learning rate over a run.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace parabola {

struct Schedule {
  std::string kind = "cosine";  // "constant", "step", "cosine" (to 0)
  double peak = 1e-3;           // the recipe's learning rate
  int64_t warmup_steps = 0;     // linear rise to the peak
  int64_t total_steps = 1;
  // Of "step": the rate is multiplied by gamma at each of these shares of all steps. As He and others train ResNets on
  // CIFAR ("Deep residual learning", 2016, section 4.2): divided by 10 at 32k and 48k of 64k steps.
  std::vector<double> milestones = {0.5, 0.75};
  double gamma = 0.1;

  // Rate of step 0, 1, ... Warm-up: peak (step + 1) / warmup. Step: peak gamma^k, where k milestones lie behind.
  // Cosine: peak (1 + cos(π t)) / 2, t the share of the steps after warm-up that lie behind.
  double rate(int64_t step) const;
};

}  // namespace parabola
