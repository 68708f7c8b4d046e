#include "apps/common/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "apps/common/axis.h"
#include "apps/common/svg.h"
#include "apps/common/text.h"
#include "engine/core/error.h"
#include "engine/io/strict_json.h"

namespace parabola {
namespace {

using namespace svg;

// Sizes in pixels.
constexpr double width = 960, plot_height = 216, margin = 28, title_height = 62, panel_header = 34, x_axis_height = 26,
                 x_label_height = 20, panel_gap = 22, label_gap = 14, swatch = 18, label_spacing = 19;
constexpr double letter = 7.4;  // width of an average letter at 13 pixels in DejaVu Sans, the widest usual sans-serif
constexpr double bold_letter_share = 0.66;  // of a bold letter's width in its font size
constexpr size_t longest_name = 28, most_markers = 40;

std::string shortened(const std::string& name) {
  if (display_width(name) <= longest_name) return name;
  size_t end = 0;
  for (size_t letters = 0; letters < longest_name || (static_cast<unsigned char>(name[end]) & 0xc0) == 0x80; ++end)
    letters += (static_cast<unsigned char>(name[end]) & 0xc0) != 0x80;
  return name.substr(0, end) + "\u2026";
}

// Colour and dash of each name, in the order in which the names first occur.
class Styles {
 public:
  explicit Styles(std::span<const Panel> panels) {
    for (const Panel& panel : panels)
      for (const Series& series : panel.series) index_.try_emplace(series.name, index_.size());
  }
  const char* color(const std::string& name) const { return palette[index_.at(name) % palette.size()]; }
  std::string dash(const std::string& name) const {
    return index_.at(name) < palette.size() ? "" : " stroke-dasharray=\"6 4\"";
  }

 private:
  std::map<std::string, size_t> index_;
};

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  bool empty() const { return low > high; }
  void add(double value) { low = std::min(low, value), high = std::max(high, value); }
};

bool visible(const Panel& panel, double x, double y) {
  return std::isfinite(x) && std::isfinite(y) && (!panel.log_y || y > 0);
}

// Of a faint series the lowest and the highest hundredth do not stretch the y axis: a single wild step would flatten
// the curve that matters.
void add_ranges(const Panel& panel, Range& x, Range& y) {
  for (const Series& series : panel.series) {
    std::vector<double> heights;
    for (size_t i = 0; i < series.x.size(); ++i) {
      if (!visible(panel, series.x[i], series.y[i])) continue;
      x.add(series.x[i]);
      heights.push_back(series.y[i]);
    }
    if (heights.empty()) continue;
    std::sort(heights.begin(), heights.end());
    const size_t ignored = series.faint ? heights.size() / 100 : 0;
    y.add(heights[ignored]);
    y.add(heights[heights.size() - 1 - ignored]);
  }
}

// A panel's plot area, in pixels, and what it shows.
struct Frame {
  Point corner;  // upper left
  double width, height;
  Axis x, y;

  double right() const { return corner.x + width; }
  double bottom() const { return corner.y + height; }
  Point at(double x_value, double y_value) const {
    return {corner.x + width * x.position(x_value), bottom() - height * y.position(y_value)};
  }
};

// The unbroken stretches of a series, in pixels.
std::vector<std::vector<Point>> stretches(const Panel& panel, const Series& series, const Frame& frame) {
  std::vector<std::vector<Point>> out;
  bool broken = true;
  for (size_t i = 0; i < series.x.size(); ++i) {
    const bool shown = visible(panel, series.x[i], series.y[i]);
    if (shown && broken) out.emplace_back();
    if (shown) out.back().push_back(frame.at(series.x[i], series.y[i]));
    broken = !shown;
  }
  return out;
}

// Keeps what can be seen: of the points in one pixel column the first, the lowest, the highest and the last.
std::vector<Point> thinned(const std::vector<Point>& points) {
  std::vector<Point> out;
  for (size_t begin = 0; begin < points.size();) {
    size_t end = begin, low = begin, high = begin;
    for (; end < points.size() && std::floor(points[end].x) == std::floor(points[begin].x); ++end) {
      if (points[end].y < points[low].y) low = end;
      if (points[end].y > points[high].y) high = end;
    }
    std::array keep = {begin, low, high, end - 1};
    std::sort(keep.begin(), keep.end());
    for (size_t k = 0; k < keep.size(); ++k)
      if (k == 0 || keep[k] != keep[k - 1]) out.push_back(points[keep[k]]);
    begin = end;
  }
  return out;
}

void draw_series(Drawing& drawing, const Series& series, const Styles& styles,
                 const std::vector<std::vector<Point>>& parts) {
  const char* color = styles.color(series.name);
  size_t count = 0;
  for (const auto& part : parts) count += part.size();
  for (const std::vector<Point>& part : parts) {
    std::string path;
    for (const Point& p : thinned(part)) path += concat(path.empty() ? "M" : "L", px(p.x), " ", px(p.y));
    if (part.size() > 1) {
      drawing.raw(concat("<path d=\"", path, "\" stroke=\"", color,
                         "\" stroke-linejoin=\"round\" stroke-linecap=\"round\"",
                         series.faint ? " stroke-width=\"1\" stroke-opacity=\"0.28\"" : " stroke-width=\"2.2\"",
                         styles.dash(series.name), "/>\n"));
    }
    // A point alone has no line; and few points are measurements that the eye should find.
    if (part.size() > 1 && (count > most_markers || series.faint)) continue;
    for (const Point& p : part)
      drawing.raw(concat("<circle cx=\"", px(p.x), "\" cy=\"", px(p.y), "\" r=\"3.6\" fill=\"", color,
                         "\" stroke=\"#fff\" stroke-width=\"1.2\"/>\n"));
  }
}

struct EndLabel {
  std::string name, value;
  double y = 0;  // of the curve's end, then of the label's middle
};

// Moves labels apart, each as near to the end of its curve as the others allow: where they touch they form a stack,
// which is centred on its curves' ends and kept within [top, bottom].
void spread(std::vector<EndLabel>& labels, double top, double bottom) {
  std::stable_sort(labels.begin(), labels.end(), [](const EndLabel& a, const EndLabel& b) { return a.y < b.y; });
  struct Stack {
    size_t first, count;
    double center;
  };
  std::vector<Stack> stacks;
  for (size_t i = 0; i < labels.size(); ++i) {
    stacks.push_back({i, 1, labels[i].y});
    const auto half = [](const Stack& s) { return label_spacing * static_cast<double>(s.count) / 2; };
    const auto settle = [&](Stack& s) { s.center = std::max(std::min(s.center, bottom - half(s)), top + half(s)); };
    settle(stacks.back());
    while (stacks.size() > 1) {
      Stack &above = stacks[stacks.size() - 2], &below = stacks.back();
      if (above.center + half(above) <= below.center - half(below)) break;
      above.count += below.count;
      double sum = 0;
      for (size_t k = above.first; k < above.first + above.count; ++k) sum += labels[k].y;
      above.center = sum / static_cast<double>(above.count);
      settle(above);
      stacks.pop_back();
    }
  }
  for (const Stack& stack : stacks)
    for (size_t k = 0; k < stack.count; ++k)
      labels[stack.first + k].y =
          stack.center + label_spacing * (static_cast<double>(k) - static_cast<double>(stack.count - 1) / 2);
}

// The value that stands beside a curve's name: its last. Empty for a curve without points.
std::string last_value(const Panel& panel, const Series& series) {
  for (size_t i = series.x.size(); i-- > 0;)
    if (visible(panel, series.x[i], series.y[i]))
      return panel.percent ? format_percent(series.y[i], 1) : format_short(series.y[i]);
  return "";
}

void draw_axes(Drawing& drawing, const Frame& frame) {
  for (double tick : frame.y.ticks()) {
    const double y = frame.bottom() - frame.height * frame.y.position(tick);
    drawing.line({frame.corner.x, y}, {frame.right(), y}, grid);
    drawing.text(frame.corner.x - 8, y + 4, "end", 12, muted, escape(frame.y.label(tick)));
  }
  for (double tick : frame.x.ticks()) {
    const double x = frame.corner.x + frame.width * frame.x.position(tick);
    drawing.line({x, frame.corner.y}, {x, frame.bottom()}, grid);
    drawing.line({x, frame.bottom()}, {x, frame.bottom() + 4}, baseline);
    drawing.text(x, frame.bottom() + 18, "middle", 12, muted, escape(frame.x.label(tick)));
  }
  drawing.line({frame.corner.x, frame.bottom()}, {frame.right(), frame.bottom()}, baseline);
}

// Faint lines first, so that they lie behind the others.
void draw_curves(Drawing& drawing, const Panel& panel, const Frame& frame, const Styles& styles, size_t number) {
  // Only faint lines can leave the plot area; the 5 pixels are room for the round ends and markers of the others.
  drawing.raw(concat("<clipPath id=\"plot", number, "\"><rect x=\"", px(frame.corner.x - 5), "\" y=\"",
                     px(frame.corner.y - 5), "\" width=\"", px(frame.width + 10), "\" height=\"", px(frame.height + 10),
                     "\"/></clipPath>\n<g clip-path=\"url(#plot", number, ")\">\n"));
  std::vector<EndLabel> labels;
  for (const bool faint : {true, false}) {
    for (const Series& series : panel.series) {
      if (series.faint != faint) continue;
      const auto parts = stretches(panel, series, frame);
      draw_series(drawing, series, styles, parts);
      if (!faint && !parts.empty()) labels.push_back({series.name, last_value(panel, series), parts.back().back().y});
    }
  }
  drawing.raw("</g>\n");
  spread(labels, frame.corner.y - label_spacing / 2, frame.bottom() + label_spacing / 2);
  for (const EndLabel& label : labels) {
    const double x = frame.right() + label_gap;
    drawing.line({x, label.y}, {x + swatch, label.y}, styles.color(label.name),
                 " stroke-width=\"2.6\" stroke-linecap=\"round\"" + styles.dash(label.name));
    drawing.text(x + swatch + 8, label.y + 4.5, "start", 13, ink,
                 concat(escape(shortened(label.name)), " ", bold(label.value)));
  }
}

// Everything of one panel; returns where the next one begins.
double draw_panel(Drawing& drawing, const Panel& panel, const Frame& frame, const Styles& styles, size_t number,
                  bool with_x_label) {
  const double middle = frame.corner.x + frame.width / 2;
  const std::string unit =
      concat("<tspan dx=\"10\" font-size=\"12\" fill=\"", muted, "\">", escape(panel.y_label), "</tspan>");
  drawing.text(margin, frame.corner.y - 18, "start", 14, ink, bold(panel.title) + (panel.y_label.empty() ? "" : unit));
  draw_axes(drawing, frame);
  draw_curves(drawing, panel, frame, styles, number);
  const bool empty = std::all_of(panel.series.begin(), panel.series.end(),
                                 [&](const Series& s) { return last_value(panel, s).empty(); });
  if (empty) drawing.text(middle, frame.corner.y + frame.height / 2, "middle", 13, muted, "nothing measured");
  double y = frame.bottom() + x_axis_height;
  if (with_x_label) {
    drawing.text(middle, y + 12, "middle", 12, muted, escape(panel.x_label));
    y += x_label_height;
  }
  return y + panel_gap;
}

// The y axis of a panel, and the x axis that it shares with others of its label. Where nothing is to be seen: 0 (or
// 0.1) to 1.
Axis make_y_axis(const Panel& panel, Range y) {
  if (y.empty()) y = {panel.log_y ? 0.1 : 0, 1};
  return {y.low, y.high, {.log = panel.log_y, .percent = panel.percent}};
}
Axis make_x_axis(const Panel& panel, Range x) {
  if (x.empty()) x = {0, 1};
  return {x.low, x.high, {.wanted_ticks = 8, .least_step = panel.least_x_step, .exact = true}};
}

}  // namespace

std::string render_svg(const std::string& title, std::span<const Panel> panels) {
  const Styles styles(panels);
  std::map<std::string, Range> x_ranges;  // by x label
  std::vector<Range> y_ranges(panels.size());
  size_t widest_label = 0, widest_tick = 0;  // in letters
  for (size_t i = 0; i < panels.size(); ++i) {
    for (const Series& series : panels[i].series) {
      if (series.x.size() != series.y.size())
        fail<UsageError>("plot", "series ", printable(series.name), ": got ", series.x.size(), " x and ",
                         series.y.size(), " y, expected as many of each");
      if (!series.faint)
        widest_label =
            std::max(widest_label, display_width(shortened(series.name) + " " + last_value(panels[i], series)));
    }
    add_ranges(panels[i], x_ranges[panels[i].x_label], y_ranges[i]);
    const Axis y_axis = make_y_axis(panels[i], y_ranges[i]);
    for (double tick : y_axis.ticks()) widest_tick = std::max(widest_tick, display_width(y_axis.label(tick)));
  }
  // All plot areas have the same left and right end, so that the eye can go straight up and down between them.
  const double left = margin + 8 + letter * static_cast<double>(widest_tick);
  const double legend = label_gap + swatch + 8 + letter * static_cast<double>(widest_label);

  Drawing drawing;
  const double fitting = (width - 2 * margin) / (bold_letter_share * static_cast<double>(display_width(title)));
  drawing.text(margin, 40, "start", static_cast<int>(std::clamp(fitting, 10.0, 20.0)), ink, bold(title));
  double y = title_height;
  for (size_t i = 0; i < panels.size(); ++i) {
    const double room_for_labels = label_spacing * static_cast<double>(panels[i].series.size());
    const Frame frame{{left, y + panel_header},
                      width - left - legend - margin,
                      std::max(plot_height, room_for_labels),
                      make_x_axis(panels[i], x_ranges[panels[i].x_label]),
                      make_y_axis(panels[i], y_ranges[i])};
    const bool last_of_its_x = i + 1 == panels.size() || panels[i + 1].x_label != panels[i].x_label;
    y = draw_panel(drawing, panels[i], frame, styles, i, last_of_its_x && !panels[i].x_label.empty());
  }
  return drawing.finish(width, y, title);
}

std::vector<double> smoothed(std::span<const double> values, double window) {
  const double keep = std::exp(-1 / std::max(window, 1e-3));
  std::vector<double> sum(values.size(), 0), weight(values.size(), 0);
  // Adds the weighted sum of the value at i and all before it (behind it, in the second sweep).
  double running_sum = 0, running_weight = 0;
  const auto visit = [&](size_t i) {
    const bool counts = std::isfinite(values[i]);
    running_sum = keep * running_sum + (counts ? values[i] : 0);
    running_weight = keep * running_weight + (counts ? 1 : 0);
    sum[i] += running_sum;
    weight[i] += running_weight;
  };
  for (size_t i = 0; i < values.size(); ++i) visit(i);
  running_sum = running_weight = 0;
  for (size_t i = values.size(); i-- > 0;) visit(i);
  // Both sweeps counted the value itself: once too often.
  std::vector<double> out(values.begin(), values.end());
  for (size_t i = 0; i < values.size(); ++i)
    if (std::isfinite(values[i])) out[i] = (sum[i] - values[i]) / (weight[i] - 1);
  return out;
}

std::string curves_svg(const Curves& curves) {
  // The loss of step s belongs to the end of that step.
  const auto epochs = [&](size_t steps) {
    std::vector<double> x(steps);
    for (size_t s = 0; s < steps; ++s) x[s] = static_cast<double>(s + 1) / curves.steps_per_epoch;
    return x;
  };
  const auto loss_x = epochs(curves.train_loss.size());
  // A hundredth of the run to each side calms the noise of single batches and keeps the curve's bends; two steps at
  // least, or a short run would have no average to show.
  const double window = std::max(2.0, static_cast<double>(curves.train_loss.size()) / 100);
  const auto panel = [](const char* title, const char* y_label, bool percent, std::vector<Series> series) {
    return Panel{title, "epoch", y_label, false, percent, 1, std::move(series)};
  };
  std::vector<Panel> panels;
  panels.push_back(panel("Loss", "cross-entropy of each training step, and its moving average", false,
                         {{"training", loss_x, curves.train_loss, true},
                          {"training", loss_x, smoothed(curves.train_loss, window), false}}));
  std::vector<Series> accuracy;
  if (!curves.train_top1.empty()) accuracy.push_back({"training", curves.epoch, curves.train_top1, false});
  if (!curves.test_top1.empty()) accuracy.push_back({"test", curves.epoch, curves.test_top1, false});
  panels.push_back(panel("Accuracy", "top-1: the most probable class is the right one", true, accuracy));
  panels.push_back(panel("Learning rate", "", false,
                         {{"learning rate", epochs(curves.learning_rate.size()), curves.learning_rate, false}}));
  return render_svg(curves.title, panels);
}

}  // namespace parabola
