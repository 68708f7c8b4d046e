#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace parabola {

double Schedule::rate(int64_t step) const {
  if (step < warmup_steps) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  if (kind == "constant") return peak;
  if (kind == "step") {
    const auto behind = [&](double share) {
      return static_cast<double>(step) >= share * static_cast<double>(total_steps);
    };
    return peak * std::pow(gamma, std::ranges::count_if(milestones, behind));
  }
  const double behind = static_cast<double>(step - warmup_steps);
  const double all = static_cast<double>(std::max<int64_t>(1, total_steps - warmup_steps));
  return peak * 0.5 * (1 + std::cos(std::numbers::pi * std::min(1.0, behind / all)));
}

}  // namespace parabola
