// How far a run has come, for people: one line that is rewritten on a terminal, a plain line now and then elsewhere.
#pragma once
#include <cmath>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>

namespace parabola {

class Progress {
 public:
  using Clock = std::function<double()>;  // seconds from any start, never backwards

  // Writes to `out` (human_output() of records.h). live: rewrite one line in place; by default where `out` is a
  // terminal. The live form uses carriage return and one control sequence, the other form plain lines only.
  explicit Progress(std::ostream& out);
  Progress(std::ostream& out, bool live, Clock clock);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Begins a stretch of `steps` steps under a label such as "epoch 2/3" or "test images", of which `done` lie behind
  // already (a resumed run). steps_after: those of later stretches, for the time left. Rates are measured from here on.
  void begin(std::string_view label, int64_t steps, int64_t done = 0, int64_t steps_after = 0);

  // One step is done. Cheap where no line is due: it is at most ten times a second live, else every ten seconds.
  // A loss or an accuracy (a fraction) that is NaN is not shown.
  void step(int64_t images, double loss = NAN, double accuracy = NAN);

  // Ends the stretch; `summary` stays as a line of its own, unless it is empty.
  void end(std::string_view summary = "");

  // A line that stays, written above the live one.
  void note(std::string_view line);

  double seconds() const;            // since begin()
  double images_per_second() const;  // since begin(); 0 before the first step

 private:
  std::string text(double loss, double accuracy) const;
  void clear();

  std::ostream& out_;
  bool live_;
  Clock clock_;
  std::string label_;
  int64_t steps_ = 0, done_ = 0, done_before_ = 0, steps_after_ = 0, images_ = 0;
  double begun_ = 0, shown_ = 0;
  bool on_screen_ = false;  // the live line stands there now
};

// Whether people look at this stream as it is written: standard output or error, on a terminal that is not "dumb".
bool is_terminal(const std::ostream& out);

}  // namespace parabola
