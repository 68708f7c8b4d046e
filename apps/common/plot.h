// Line plots as small self-contained SVG files: no library, no script, no font file.
#pragma once
#include <span>
#include <string>
#include <vector>

namespace parabola {

// One line. Points whose x or y is not finite (or not positive on a logarithmic axis) leave a gap.
struct Series {
  std::string name{};  // series of the same name have the same colour in all panels
  std::vector<double> x{}, y{};
  bool faint = false;  // thin, pale and without a label: the raw values behind a smoothed line of the same name
};

struct Panel {
  std::string title{}, x_label{}, y_label{};
  bool log_y = false;
  bool percent = false;     // y values are fractions, written as percent
  double least_x_step = 0;  // 1: ticks at whole x only
  std::vector<Series> series{};
};

// Panels one below the other, as an SVG document. Panels with the same x label have the same x range, so that they can
// be read together. Each line is named at its right end, in its colour, with its last value; no legend covers a line.
// Colours are those of Okabe and Ito (jfly.uni-koeln.de/color), which people tell apart whatever their colour vision;
// from the eighth line on they repeat, dashed. Long series are thinned to what one can see. Text may hold anything.
// UsageError: a series whose x and y differ in length.
std::string render_svg(const std::string& title, std::span<const Panel> panels);

// What a training run has to show. Every vector may be empty.
struct Curves {
  std::string title{};
  double steps_per_epoch = 1;
  std::vector<double> train_loss{};               // of step 1, 2, ...
  std::vector<double> learning_rate{};            // of step 1, 2, ...
  std::vector<double> epoch{};                    // when the accuracies below were measured; 0: before the first step
  std::vector<double> train_top1{}, test_top1{};  // fractions, one for each entry of epoch; NaN where not measured
};

// curves.svg of a run: training loss (every step, and smoothed), top-1 and learning rate over epochs.
std::string curves_svg(const Curves& curves);

// A weighted mean around each value, in which a neighbour d places away counts exp(-d / window): no lag, unlike a mean
// of past values. NaN stays NaN and counts nowhere.
std::vector<double> smoothed(std::span<const double> values, double window);

}  // namespace parabola
