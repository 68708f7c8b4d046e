// Plots: the SVG is well-formed whatever goes in, names every curve, and its axes have ticks that people like.
#include "apps/common/plot.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <sstream>

#include "apps/common/axis.h"
#include "engine/core/error.h"
#include "tests/support/test.h"

namespace parabola::plot_test {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();

// What is wrong with an XML document of the kind that we write: tags, attributes in double quotes, text; no comments.
std::string xml_fault(const std::string& xml) {
  std::vector<std::string> open;
  for (size_t at = 0; at < xml.size();) {
    if (xml[at] == '>') return "stray >";
    if (xml[at] == '&') {
      const std::string entity = xml.substr(at, xml.find(';', at) + 1 - at);
      if (!std::set<std::string>{"&amp;", "&lt;", "&gt;", "&quot;"}.count(entity)) return "unknown entity " + entity;
    }
    if (static_cast<unsigned char>(xml[at]) < 0x20 && xml[at] != '\n') return "control character";
    if (xml[at] != '<') {
      ++at;
      continue;
    }
    size_t end = at;
    for (bool quoted = false; end < xml.size() && (quoted || xml[end] != '>'); ++end) quoted ^= xml[end] == '"';
    if (end == xml.size()) return "tag without end";
    const std::string tag = xml.substr(at + 1, end - at - 1), name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag.find('<') != std::string::npos) return "< within a tag";
    if (tag[0] == '/') {
      if (open.empty() || "/" + open.back() != tag) return "unexpected <" + tag + ">";
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
    at = end + 1;
  }
  return open.empty() ? "" : "open tag " + open.back();
}

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

std::string plot_of(std::vector<Series> series, bool log_y = false) {
  const Panel panel{"title", "x", "y", log_y, false, 0, std::move(series)};
  return render_svg("plot", {&panel, 1});
}

// Sound as XML, and no coordinate that a number without value left behind. format_fixed() writes NaN as "-".
void check_sound(const std::string& svg) {
  CHECK(xml_fault(svg) == "");
  CHECK(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  for (const char* bad : {"nan", "NaN", "inf", "\"-\"", "- ", "M-L", "\"\""}) {
    CAPTURE(bad);
    CHECK(count(svg, bad) == 0);
  }
}

std::vector<std::string> labels(double low, double high, Axis::Options options = {}) {
  const Axis axis(low, high, options);
  std::vector<std::string> out;
  for (double tick : axis.ticks()) out.push_back(axis.label(tick));
  return out;
}

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("axis: ticks are 1, 2 or 5 times a power of ten and cover the values") {
  CHECK(labels(0.35, 2.3) == Words{"0", "0.5", "1.0", "1.5", "2.0", "2.5"});
  CHECK(labels(0.62, 0.87, {.percent = true}) == Words{"60%", "65%", "70%", "75%", "80%", "85%", "90%"});
  CHECK(labels(-3, 7) == Words{"-4", "-2", "0", "2", "4", "6", "8"});
  CHECK(labels(0, 120000) == Words{"0", "50,000", "100,000", "150,000"});
  CHECK(labels(0, 1e-5) == Words{"0", "2e-6", "4e-6", "6e-6", "8e-6", "1e-5"});
  CHECK(labels(0, 3, {.wanted_ticks = 8, .least_step = 1, .exact = true}) == Words{"0", "1", "2", "3"});
  CHECK(labels(0, 0.5, {.wanted_ticks = 2, .least_step = 1, .exact = true}) == Words{"0", "0.5"});
  for (double low : {-1e12, -7.3, 0.0, 1e-9, 0.9999, 123456.0})
    for (double size : {1e-6, 0.3, 17.0, 1e9}) {
      const Axis axis(low, low + size, {});
      CHECK(axis.low() <= low);
      CHECK(axis.high() >= low + size * (1 - 1e-6));  // to within rounding
      CHECK(axis.ticks().size() >= 2);
      CHECK(axis.ticks().size() <= 10);
    }
}

TEST_CASE("axis: one value, or values that differ by rounding, get room around them") {
  CHECK(labels(5, 5).size() >= 3);
  CHECK(labels(0, 0).size() >= 3);
  CHECK(labels(1, std::nextafter(1.0, 2.0)).size() <= 10);
  CHECK(labels(1, 1, {.log = true}) == Words{"0.5", "1", "2"});
}

TEST_CASE("axis: logarithmic ticks") {
  CHECK(labels(0.11, 1.9, {.log = true}) == Words{"0.1", "0.2", "0.5", "1", "2"});
  CHECK(labels(1e-4, 10, {.log = true}) == Words{"0.0001", "0.001", "0.01", "0.1", "1", "10"});
  CHECK(labels(1e-30, 1, {.log = true}).size() <= 12);
  const Axis axis(1, 100, {.log = true});
  CHECK(axis.position(10) == doctest::Approx(0.5));
}

TEST_CASE("plot: the checker of this file sees faults") {
  for (const char* bad : {"<a>", "</a>", "<a><b></a></b>", "<a>&nbsp;</a>", "<a>x > y</a>", "<a b=\"c>", "\x01"})
    CHECK(xml_fault(bad) != "");
  CHECK(xml_fault("<a b=\"c > d\"><e/>&lt;</a>\n") == "");
}

TEST_CASE("plot: every curve is named once, with its last value") {
  const std::vector<Panel> panels{
      {"Loss", "epoch", "", false, false, 1, {{"raw", {0, 1}, {2, 1}, true}, {"raw", {0, 1}, {2, 1.5}, false}}},
      {"Accuracy",
       "epoch",
       "",
       false,
       true,
       1,
       {{"quadratic", {0, 1}, {0.5, 0.86}, false}, {"LoRA", {0}, {0.4}, false}}}};
  const std::string svg = render_svg("A <title> & \"more\"", panels);
  check_sound(svg);
  CHECK(count(svg, ">raw <tspan font-weight=\"600\">1.5<") == 1);
  CHECK(count(svg, ">quadratic <tspan font-weight=\"600\">86.0%<") == 1);
  CHECK(count(svg, ">LoRA <tspan font-weight=\"600\">40.0%<") == 1);
  CHECK(count(svg, "A &lt;title&gt; &amp; &quot;more&quot;") == 2);  // heading and <title>
  CHECK(count(svg, ">epoch<") == 1);                                 // shared by both panels
  CHECK(svg == render_svg("A <title> & \"more\"", panels));
}

TEST_CASE("plot: labels of curves that end together do not overlap") {
  std::vector<Series> series;
  series.reserve(9);
  for (int i = 0; i < 9; ++i) series.push_back({"curve" + std::to_string(i), {0, 1}, {0, 0.5 + 1e-3 * i}, false});
  const std::string svg = plot_of(series);
  std::set<double> heights;
  for (int i = 0; i < 9; ++i) {
    const size_t name = svg.find(">curve" + std::to_string(i) + " "), y = svg.rfind(" y=\"", name);
    heights.insert(std::stod(svg.substr(y + 4)));
  }
  REQUIRE(heights.size() == 9);
  for (auto it = std::next(heights.begin()); it != heights.end(); ++it) CHECK(*it - *std::prev(it) > 15);
}

TEST_CASE("plot: whatever goes in, the picture is sound") {
  check_sound(render_svg("no panels", {}));
  check_sound(plot_of({}));
  check_sound(plot_of({{"empty", {}, {}, false}}));
  check_sound(plot_of({{"one", {3}, {2}, false}}));
  check_sound(plot_of({{"constant", {0, 1, 2}, {5, 5, 5}, false}}));
  check_sound(plot_of({{"nothing", {0, 1}, {nan, inf}, false}, {"x", {nan, -inf}, {1, 2}, true}}));
  check_sound(plot_of({{"not positive", {0, 1, 2}, {0, -1, nan}, false}}, true));
  check_sound(plot_of({{std::string("bytes \xff\x01\x7f & <b>"), {0, 1}, {1, 2}, false}}));
  check_sound(plot_of({{std::string(300, 'w'), {0, 1}, {1e30, -1e30}, false}}));
  check_sound(plot_of({{"größte größte größte größte größte", {0, 1}, {1, 2}, false}}));
}

TEST_CASE("plot: a NaN leaves a gap and a lonely point becomes a dot") {
  const std::string whole = plot_of({{"s", {0, 1, 2, 3, 4}, {1, 2, 3, 4, 5}, false}});
  const std::string gap = plot_of({{"s", {0, 1, 2, 3, 4}, {1, 2, nan, 4, 5}, false}});
  const std::string lonely = plot_of({{"s", {0, 1, 2, 3, 4}, {1, nan, 3, nan, 5}, false}});
  const std::string line = "stroke-linejoin";
  CHECK(count(whole, line) == 1);
  CHECK(count(gap, line) == 2);
  CHECK(count(lonely, line) == 0);
  CHECK(count(lonely, "<circle") == 3);
}

TEST_CASE("plot: a long series is thinned, but its extremes stay") {
  Series series{"long", {}, {}, false};
  for (int i = 0; i < 200000; ++i) {
    series.x.push_back(i);
    series.y.push_back(i == 123456 ? 9.0 : 1 + 0.1 * std::sin(i));
  }
  const std::string svg = plot_of({series});
  check_sound(svg);
  CHECK(svg.size() < 100000);
  // The axis goes from 0 to 10, and the spike alone comes into its upper half; y grows downward.
  const size_t end = svg.rfind('"', svg.find("stroke-linejoin") - 20), begin = svg.rfind("d=\"M", end) + 3;
  std::string path = svg.substr(begin, end - begin);
  std::replace_if(
      path.begin(), path.end(), [](char c) { return c == 'M' || c == 'L'; }, ' ');
  std::istringstream points(path);
  size_t all = 0, spikes = 0;
  for (double x, y; points >> x >> y; ++all) spikes += y < 200;
  CHECK(all > 500);
  CHECK(spikes == 1);
}

TEST_CASE("plot: series of unequal lengths are a mistake of the caller") {
  CHECK_THROWS_AS(plot_of({{"s", {0, 1}, {1}, false}}), UsageError);
}

TEST_CASE("plot: a run's curves") {
  Curves curves{.title = "train qresnet14", .steps_per_epoch = 10};
  for (int step = 0; step < 30; ++step) {
    curves.train_loss.push_back(2.0 / (1 + step));
    curves.learning_rate.push_back(0.1);
  }
  curves.epoch = {1, 2, 3};
  curves.train_top1 = {0.4, 0.5, nan};
  curves.test_top1 = {0.41, 0.48, 0.553};
  const std::string svg = curves_svg(curves);
  check_sound(svg);
  CHECK(count(svg, ">training <tspan font-weight=\"600\">50.0%<") == 1);
  CHECK(count(svg, ">test <tspan font-weight=\"600\">55.3%<") == 1);
  CHECK(count(svg, ">learning rate <tspan font-weight=\"600\">0.1<") == 1);
  check_sound(curves_svg({}));
}

TEST_CASE("plot: smoothing keeps constants and straight lines, skips NaN, and calms noise") {
  for (double value : smoothed(std::vector<double>{3, 3, 3}, 5)) CHECK(value == doctest::Approx(3));
  std::vector<double> line, noise;
  for (int i = 0; i < 1001; ++i) line.push_back(i), noise.push_back(i % 2 ? 1.0 : -1.0);
  CHECK(smoothed(line, 20)[500] == doctest::Approx(500));  // no lag
  CHECK(std::abs(smoothed(noise, 20)[500]) < 0.05);
  noise[500] = nan;
  CHECK(std::isnan(smoothed(noise, 20)[500]));
  CHECK(std::abs(smoothed(noise, 20)[501]) < 0.1);
  CHECK(smoothed({}, 3).empty());
}

}  // namespace parabola::plot_test
