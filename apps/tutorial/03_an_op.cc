// Chapter 3. An op: forward, backward, and how one knows that they are right
//
// At the end of this chapter you have written an operation of your own, seen what its backward function is told, and
// checked its gradient against the definition of the derivative. The check catches a planted mistake.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/core/op.h"
#include "engine/core/random.h"
#include "engine/ops/binary.h"
#include "engine/ops/reduce.h"
#include "engine/tape/tape.h"

using namespace parabola;

// Softsign, y = x / (1 + |x|): an S between -1 and 1, like tanh, but without exp.
void forward(const ForwardArgs& args) {
  const double* x = args.inputs[0].data<double>();
  double* y = args.outputs[0].data<double>();
  for (int64_t i = 0; i < args.inputs[0].shape.elements(); ++i) y[i] = x[i] / (1 + std::abs(x[i]));
}

// Backward is told dy, the gradient of the loss by every y, and answers with dx = dy * dy/dx. Here dy/dx is
// 1 / (1 + |x|)^2, which needs x. Where x was used elsewhere too, a gradient is there already: ours is added to it.
template <int power>
void backward(const BackwardArgs& args) {
  const double *x = args.inputs[0].data<double>(), *dy = args.output_gradients[0].data<double>();
  double* dx = args.input_gradients[0].data<double>();
  for (int64_t i = 0; i < args.inputs[0].shape.elements(); ++i)
    dx[i] = (args.accumulates(0) ? dx[i] : 0) + dy[i] / std::pow(1 + std::abs(x[i]), power);
}

// An op is data: what it makes of which shapes, what backward reads (bit 0: input 0), and the two functions.
constexpr OpDef make_softsign(void (*backward)(const BackwardArgs&)) {
  return {.name = "softsign",
          .layout = [](const Signature& s) { return Layout{.outputs = {s.inputs[0]}}; },
          .needs = [](const Signature&) { return Needs{.inputs = 1}; },
          .cpu = {forward, backward}};
}
const OpDef softsign = make_softsign(backward<2>);
const OpDef mistaken = make_softsign(backward<1>);  // the square forgotten

// How far the tape's gradient is from the derivative's definition, (f(x + h) - f(x - h)) / 2h. The loss weighs every
// output differently: a plain sum would not see gradients that went to the wrong element. f64, because the difference
// of two nearly equal numbers keeps only half of their digits.
double worst_error(const OpDef& op) {
  const int64_t n = 8;
  Random random({.seed = 3, .stream = Stream::test});
  const Tensor x = Tensor::empty({n}, DType::f64), weights = Tensor::empty({n}, DType::f64);
  for (double& value : x.span<double>()) value = random.normal();
  for (double& value : weights.span<double>()) value = random.normal();
  const auto loss = [&] { return sum(weights * apply(op, {x})); };

  x.set_requires_gradient(true);
  {
    Tape tape;
    tape.backward(loss());
  }
  double worst = 0;
  for (int64_t i = 0; i < n; ++i) {
    double& xi = x.data<double>()[i];
    const double here = xi, h = 1e-5;
    xi = here + h;
    const double above = loss().item();  // no tape is open: ops run, and nothing is kept
    xi = here - h;
    const double below = loss().item();
    xi = here;
    worst = std::max(worst, std::abs(x.gradient().at(i) - (above - below) / (2 * h)));
  }
  return worst;
}

int main() {
  const Tensor x = Tensor::from<double>(std::vector<double>{-3, -1, 0, 1, 3}, {5});
  std::printf("softsign  %s\n", apply(softsign, {x}).str().c_str());

  // Used twice, its gradient adds up: d(y + y)/dx = 2 dy/dx.
  x.set_requires_gradient(true);
  {
    Tape tape;
    tape.backward(sum(apply(softsign, {x}) + apply(softsign, {x})));
  }
  std::printf("2 dy/dx   %s\n", x.gradient().str().c_str());

  const auto verdict = [](const OpDef& op) { return worst_error(op) < 1e-8 ? "right to 8 digits" : "WRONG"; };
  std::printf("softsign's gradient is %s\n", verdict(softsign));
  std::printf("the mistaken one's is %s\n", verdict(mistaken));
}

// Exercise: write softplus, ln(1 + e^x), whose derivative is the sigmoid; let worst_error judge it.

// Prints:
//   softsign  Tensor(-0.75, -0.5, 0, 0.5, 0.75; [5] f64 on cpu)
//   2 dy/dx   Tensor(0.125, 0.5, 2, 0.5, 0.125; [5] f64 on cpu)
//   softsign's gradient is right to 8 digits
//   the mistaken one's is WRONG
