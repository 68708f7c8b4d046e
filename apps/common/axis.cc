#include "apps/common/axis.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "apps/common/text.h"

namespace parabola {
namespace {

// Rounding makes 0.3 / 0.1 a little less than 3: a tick may miss the range's end by this share of a step.
constexpr double slack = 1e-9;

// The smallest of 1, 2, 5 times a power of ten that is at least x.
double nice_step(double x) {
  const double power = std::pow(10.0, std::floor(std::log10(x) + slack));
  for (double factor : {1.0, 2.0, 5.0})
    if (factor * power >= x * (1 - slack)) return factor * power;
  return 10 * power;
}

std::string general(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*g", digits, value);
  std::string out = text;
  // C writes at least two digits of exponent: 1e-05.
  const size_t e = out.find('e');
  if (e != std::string::npos && out.size() == e + 4 && out[e + 2] == '0') out.erase(e + 2, 1);
  return out;
}

}  // namespace

Axis::Axis(double low, double high, const Options& options) : low_(low), high_(high), options_(options) {
  if (options_.log) {
    if (high_ <= low_ * (1 + slack)) low_ /= 2, high_ *= 2;
    log_ticks();
  } else {
    // Values that differ by rounding only are one value, too: ticks between them could not be told apart.
    const double size = std::max(std::abs(low_), std::abs(high_));
    if (high_ - low_ <= slack * size) {
      const double widen = size == 0 ? 1 : size / 10;
      low_ -= widen, high_ += widen;
    }
    // From here on 0 costs little room and makes heights comparable.
    if (low_ > 0 && low_ < high_ / 4) low_ = 0;
    linear_ticks();
  }
}

void Axis::linear_ticks() {
  step_ = nice_step((high_ - low_) / std::max(1, options_.wanted_ticks));
  if (high_ - low_ >= 2 * options_.least_step) step_ = std::max(step_, options_.least_step);
  if (!options_.exact) {
    low_ = step_ * std::floor(low_ / step_ + slack);
    high_ = step_ * std::ceil(high_ / step_ - slack);
  }
  const double first = std::ceil(low_ / step_ - slack), last = std::floor(high_ / step_ + slack);
  for (double i = first; i <= last; ++i) ticks_.push_back(i * step_);
}

void Axis::log_ticks() {
  const auto all_ticks = [&](const std::vector<double>& factors) {
    std::vector<double> ticks;
    for (double e = std::floor(std::log10(low_)) - 1; e <= std::ceil(std::log10(high_)) + 1; ++e)
      for (double factor : factors) ticks.push_back(factor * std::pow(10.0, e));
    return ticks;
  };
  const double decades = std::log10(high_ / low_);
  std::vector<double> ticks = all_ticks(decades < 3 ? std::vector<double>{1, 2, 5} : std::vector<double>{1});
  if (!options_.exact) {
    low_ = *(std::upper_bound(ticks.begin(), ticks.end(), low_ * (1 + slack)) - 1);
    high_ = *std::lower_bound(ticks.begin(), ticks.end(), high_ * (1 - slack));
  }
  const auto every = static_cast<size_t>(std::max(1.0, std::ceil(decades / (2 * options_.wanted_ticks))));
  size_t i = 0;
  for (double tick : ticks)
    if (tick >= low_ * (1 - slack) && tick <= high_ * (1 + slack) && i++ % every == 0) ticks_.push_back(tick);
}

double Axis::position(double value) const {
  if (options_.log) return std::log(value / low_) / std::log(high_ / low_);
  return (value - low_) / (high_ - low_);
}

std::string Axis::label(double tick) const {
  if (options_.log) return options_.percent ? general(100 * tick, 3) + "%" : general(tick, 3);
  const double scale = options_.percent ? 100 : 1, value = scale * tick, step = scale * step_;
  const double largest = scale * std::max(std::abs(low_), std::abs(high_));
  const int decimals = static_cast<int>(std::ceil(-std::log10(step) - slack));
  std::string text;
  if (std::abs(value) < slack * step) {
    text = "0";
  } else if (decimals > 4 || largest >= 1e9) {
    text = general(value, 6);
  } else {
    text = decimals > 0 ? format_fixed(value, decimals) : format_count(std::llround(value));
  }
  return options_.percent ? text + "%" : text;
}

std::string format_short(double value) {
  if (std::abs(value) >= 1000 && std::abs(value) < 1e9) return format_count(std::llround(value));
  return general(value, 3);
}

}  // namespace parabola
