// The learning rate over a run.
#pragma once
#include <cstdint>
#include <string>

namespace parabola {

struct Schedule {
  std::string kind = "cosine";  // "constant", "cosine" (to 0)
  double peak = 1e-3;           // the recipe's learning rate
  int64_t warmup_steps = 0;     // linear rise to the peak
  int64_t total_steps = 1;

  // Rate of step 0, 1, ... Warm-up: peak (step + 1) / warmup. Cosine: peak (1 + cos(π t)) / 2, t the share of the steps
  // after warm-up that lie behind.
  double rate(int64_t step) const;
};

}  // namespace parabola
