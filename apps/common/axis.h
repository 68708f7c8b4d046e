// One axis of a plot: which values it spans, where its ticks are and what is written at them.
#pragma once
#include <string>
#include <vector>

namespace parabola {

class Axis {
 public:
  // low <= high: the values to be shown, both positive on a logarithmic axis; an empty range is widened.
  // wanted_ticks: about how many ticks there should be. Their step is 1, 2 or 5 times a power of ten and at least
  // least_step (linear axes; 1: whole numbers only, unless the range has fewer than two). A logarithmic axis has ticks
  // at 1, 2 and 5 times powers of ten, or at powers of ten alone where those are many. Unless exact, low and high move
  // outward to the next ticks, and low to 0 where 0 is near.
  struct Options {
    int wanted_ticks = 5;
    double least_step = 0;
    bool log = false;
    bool percent = false;  // values are fractions, written as percent
    bool exact = false;
  };
  Axis(double low, double high, const Options& options);

  double position(double value) const;  // 0 at low, 1 at high; linear, or in the logarithm
  const std::vector<double>& ticks() const { return ticks_; }
  std::string label(double tick) const;  // as many decimals as the ticks need: "0.25", "12,000", "85%", "1e-5"
  double low() const { return low_; }
  double high() const { return high_; }

 private:
  void linear_ticks();
  void log_ticks();

  double low_, high_;
  Options options_;
  double step_ = 1;  // between linear ticks
  std::vector<double> ticks_;
};

// A value with three significant digits and no more decimals than it needs, as a label at the end of a curve.
std::string format_short(double value);

}  // namespace parabola
