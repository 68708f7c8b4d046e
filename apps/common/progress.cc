#include "apps/common/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>

#include "apps/common/text.h"

namespace parabola {
namespace {

constexpr double live_interval = 0.1, plain_interval = 10;  // seconds between lines
constexpr int64_t bar_width = 20;

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

size_t terminal_columns(const std::ostream& out) {
  winsize size{};
  const int file = &out == &std::cout ? STDOUT_FILENO : STDERR_FILENO;
  return ::ioctl(file, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

bool is_terminal(const std::ostream& out) {
  const int file = &out == &std::cout ? STDOUT_FILENO : &out == &std::cerr ? STDERR_FILENO : -1;
  const char* kind = std::getenv("TERM");
  return file >= 0 && ::isatty(file) != 0 && kind != nullptr && std::string_view(kind) != "dumb";
}

Progress::Progress(std::ostream& out) : Progress(out, is_terminal(out), steady_seconds) {}
Progress::Progress(std::ostream& out, bool live, Clock clock) : out_(out), live_(live), clock_(std::move(clock)) {}
Progress::~Progress() { clear(); }

void Progress::begin(std::string_view label, int64_t steps, int64_t done, int64_t steps_after) {
  clear();
  label_ = label;
  steps_ = steps;
  done_ = done_before_ = done;
  steps_after_ = steps_after;
  images_ = 0;
  begun_ = clock_();
  shown_ = live_ ? begun_ - live_interval : begun_;  // live, the first step shows at once
}

void Progress::step(int64_t images, double loss, double accuracy) {
  ++done_;
  images_ += images;
  const double now = clock_();
  if (now - shown_ < (live_ ? live_interval : plain_interval)) return;
  shown_ = now;
  std::string line = text(loss, accuracy);
  if (live_) {
    // A line longer than the terminal would wrap, and its first half would stay.
    line = line.substr(0, terminal_columns(out_) - 1);
    out_ << '\r' << line << "\x1b[K" << std::flush;
    on_screen_ = true;
  } else {
    out_ << line << std::endl;
  }
}

void Progress::end(std::string_view summary) {
  clear();
  if (!summary.empty()) out_ << summary << std::endl;
}

void Progress::note(std::string_view line) { end(line); }

double Progress::seconds() const { return clock_() - begun_; }

double Progress::images_per_second() const {
  const double spent = seconds();
  return spent > 0 ? static_cast<double>(images_) / spent : 0;
}

std::string Progress::text(double loss, double accuracy) const {
  std::string line = label_ + "  ";
  if (live_ && steps_ > 0) {
    const auto filled = static_cast<size_t>(std::clamp<int64_t>(bar_width * done_ / steps_, 0, bar_width));
    line += "[" + std::string(filled, '=') + std::string(bar_width - filled, ' ') + "]  ";
  }
  line += "step " + format_count(done_) + "/" + format_count(steps_);
  if (!std::isnan(loss)) line += "  loss " + format_fixed(loss, 4);
  if (!std::isnan(accuracy)) line += "  top-1 " + format_percent(accuracy);
  line += "  " + format_count(std::llround(images_per_second())) + " images/s";
  const double per_step = seconds() / static_cast<double>(std::max<int64_t>(1, done_ - done_before_));
  const double left = per_step * static_cast<double>(std::max<int64_t>(0, steps_ - done_) + steps_after_);
  return line + "  " + format_duration(left) + " left";
}

void Progress::clear() {
  if (on_screen_) out_ << "\r\x1b[K" << std::flush;
  on_screen_ = false;
}

}  // namespace parabola
