// What `demo` says of its runs: a table, what it shows in words, and the curves.
#pragma once
#include <span>
#include <string>

#include "apps/common/trainer.h"

namespace parabola {

// One training run: the base, or one way of adapting it. Top-1 is of the test images: clean ones for the base, shifted
// ones for the others.
struct DemoRun {
  std::string method;  // base, head, lora, quadratic, full
  std::string title;   // for people
  double learning_rate = 0;
  int64_t trainable = 0;
  double validation_top1 = 0;  // of shifted validation images before the run; the base's own of clean ones, after it
  TrainerResult result{};
  Curves curves{};
};

// One row a run. The base stands on top, with what it is worth on the shifted images before anything is adapted.
std::string demo_table(const DemoRun& base, std::span<const DemoRun> adapted);

// What the table shows: what the shift cost, what each method wins back, and how the quadratic adapters compare with
// LoRA, where a difference that chance explains is called none. Every line fits a terminal.
std::string demo_verdict(const DemoRun& base, std::span<const DemoRun> adapted);

// Top-1 on the shifted test images and training loss over epochs, one line a method.
std::string demo_curves(const DemoRun& base, std::span<const DemoRun> adapted);

}  // namespace parabola
