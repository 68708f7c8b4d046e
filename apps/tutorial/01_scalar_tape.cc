// Chapter 1. A tape of numbers
//
// At the end of this chapter you know what reverse-mode automatic differentiation is: some thirty lines, written here
// from nothing. The engine does the same, with tensors in place of numbers.
#include <cmath>
#include <cstdio>
#include <vector>

#include "engine/ops/binary.h"
#include "engine/ops/unary.h"
#include "engine/tape/tape.h"

// ---- From nothing: while a formula is computed, write down every step of it.

namespace scratch {

// One step: which earlier steps it read, and by how much its value moves with theirs.
struct Step {
  double value;
  int read[2];
  double slope[2];
  double gradient = 0;
};

std::vector<Step> tape;

struct Number {
  int step;
  double value() const { return tape[step].value; }
  double gradient() const { return tape[step].gradient; }
};

Number record(double value, int a = -1, double slope_a = 0, int b = -1, double slope_b = 0) {
  tape.push_back({value, {a, b}, {slope_a, slope_b}});
  return {static_cast<int>(tape.size()) - 1};
}

Number operator+(Number a, Number b) { return record(a.value() + b.value(), a.step, 1, b.step, 1); }
Number operator*(Number a, Number b) { return record(a.value() * b.value(), a.step, b.value(), b.step, a.value()); }
Number tanh(Number a) {
  const double y = std::tanh(a.value());
  return record(y, a.step, 1 - y * y);
}

// The chain rule, from the last step to the first. When its turn comes, a step has heard from all that read it, so its
// gradient is complete: that is why one pass is enough, however many inputs there are.
void backward(Number result) {
  tape[result.step].gradient = 1;
  for (int i = result.step; i >= 0; --i)
    for (int k : {0, 1})
      if (tape[i].read[k] >= 0) tape[tape[i].read[k]].gradient += tape[i].slope[k] * tape[i].gradient;
}

}  // namespace scratch

// A quadratic neuron with one input. x is read three times, so its gradient has three parts that add up.
template <class T>
T neuron(const T& x, const T& a, const T& b, const T& c) {
  return tanh((a * x) * (b * x) + c * x);
}

int main() {
  const double x = 0.5, a = 2, b = -1, c = 3;
  {
    using namespace scratch;
    const Number numbers[] = {record(x), record(a), record(b), record(c)};
    const Number y = neuron(numbers[0], numbers[1], numbers[2], numbers[3]);
    backward(y);
    std::printf("our tape    y = %.5f, %zu steps, gradients", y.value(), tape.size());
    for (const Number& number : numbers) std::printf(" %.5f", number.gradient());
  }
  {
    using namespace parabola;
    std::vector<Tensor> tensors;
    for (const double value : {x, a, b, c})
      tensors.push_back(Tensor::full({}, value, DType::f64).set_requires_gradient(true));
    Tape tape;  // open from here on: whatever ops compute is recorded
    const Tensor y = neuron(tensors[0], tensors[1], tensors[2], tensors[3]);
    tape.backward(y);
    std::printf("\nthe engine  y = %.5f, %zu nodes, gradients", y.item(), tape.nodes().size());
    for (const Tensor& tensor : tensors) std::printf(" %.5f", tensor.gradient().item());
  }
  // And without any tape: move one input a little, see how the result moves. That takes two runs for every input.
  const auto f = [](double x, double a, double b, double c) { return std::tanh((a * x) * (b * x) + c * x); };
  const double h = 1e-5;
  std::printf("\ndifferences                          %.5f %.5f %.5f %.5f\n",
              (f(x + h, a, b, c) - f(x - h, a, b, c)) / (2 * h), (f(x, a + h, b, c) - f(x, a - h, b, c)) / (2 * h),
              (f(x, a, b + h, c) - f(x, a, b - h, c)) / (2 * h), (f(x, a, b, c + h) - f(x, a, b, c - h)) / (2 * h));
}

// Exercise: give our tape a division, and check it with y = a x / (1 + x x).

// Prints:
//   our tape    y = 0.76159, 10 steps, gradients 0.41997 -0.10499 0.20999 0.20999
//   the engine  y = 0.76159, 6 nodes, gradients 0.41997 -0.10499 0.20999 0.20999
//   differences                          0.41997 -0.10499 0.20999 0.20999
