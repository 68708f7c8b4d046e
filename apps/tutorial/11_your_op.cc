// Chapter 11. Your own op, from outside of the engine
//
// At the end of this chapter you can add an operation with parameters and options to your own program, without touching
// the engine: it is recorded, evicted, replayed, counted and named in errors as the engine's own are.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/core/op.h"
#include "engine/core/random.h"
#include "engine/ops/reduce.h"
#include "engine/tape/executor.h"
#include "engine/tape/tape.h"

using namespace parabola;

// y = sin(gain w x) over channels: x [..., C], a frequency w [C] to be learned, a fixed gain. dx = dy gain w cos(gain w
// x); dw = the sum over rows of dy gain x cos(gain w x). Sitzmann and others, "Implicit neural representations with
// periodic activation functions", 2020.
struct SineAttributes {
  double gain = 1;
};

// Shapes, checked before anything is allocated. `fail` adds the op's name in front and the place in the model behind.
Layout layout(const Signature& s) {
  const Shape &x = s.shape(0), &w = s.shape(1);
  if (x.rank() < 1 || w != Shape{x.back()})
    fail<ShapeError>("sine", "w: got ", w, " for x ", x, ", expected its last axis alone");
  return {.outputs = {s.inputs[0]}};
}

template <class T>
void forward(const ForwardArgs& args) {
  const T *x = args.inputs[0].data<T>(), *w = args.inputs[1].data<T>();
  const T gain = static_cast<T>(args.attributes.get<SineAttributes>().gain);
  const int64_t C = args.inputs[1].shape.back();
  for (int64_t i = 0; i < args.inputs[0].shape.elements(); ++i)
    args.outputs[0].data<T>()[i] = std::sin(gain * w[i % C] * x[i]);
}

// Each gradient only where it is wanted: for a frozen w nothing is computed, and nothing written. Sums go in one fixed
// order, so that a gradient has the same bits in every run.
template <class T>
void backward(const BackwardArgs& args) {
  const T *x = args.inputs[0].data<T>(), *w = args.inputs[1].data<T>(), *dy = args.output_gradients[0].data<T>();
  const T gain = static_cast<T>(args.attributes.get<SineAttributes>().gain);
  const int64_t n = args.inputs[0].shape.elements(), C = args.inputs[1].shape.back();
  T *dx = args.input_gradients[0].data<T>(), *dw = args.input_gradients[1].data<T>();
  if (args.wants(1) && !args.accumulates(1)) std::fill(dw, dw + C, T(0));
  for (int64_t i = 0; i < n; ++i) {
    const T slope = dy[i] * gain * std::cos(gain * w[i % C] * x[i]);
    if (args.wants(0)) dx[i] = (args.accumulates(0) ? dx[i] : 0) + slope * w[i % C];
    if (args.wants(1)) dw[i % C] += slope * x[i];
  }
}

const OpDef sine_op = {
    .name = "sine",
    .layout = layout,
    .cost = [](const Signature& s) -> StepCost {
      const double bytes = static_cast<double>(s.inputs[0].bytes()), n = static_cast<double>(s.shape(0).elements());
      return {{3 * n, bytes, bytes}, {7 * n, 2 * bytes, bytes}};
    },
    .needs = [](const Signature&) { return Needs{.inputs = 0b11}; },  // backward reads x and w, not y
    .policy = Policy::recompute,  // cheap to do again: under the default policy its output does not stay
    .optional = 0,                // both inputs must be there
    .cpu = {[](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, "sine", [&]<class T>() { forward<T>(a); }); },
            [](const BackwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "sine", [&]<class T>() { backward<T>(a); });
            }},
};

Tensor sine(const Tensor& x, const Tensor& w, double gain) { return apply(sine_op, {x, w}, SineAttributes{gain}); }

int main() {
  Random random({.seed = 11, .stream = Stream::test});
  const Tensor x = Tensor::empty({200, 3}, DType::f64, Category::inputs), w = Tensor::empty({3}, DType::f64);
  for (double& value : x.span<double>()) value = random.uniform(-1, 1);
  for (double& value : w.span<double>()) value = random.uniform(1, 2);
  w.set_requires_gradient(true);

  // Two sines in a row, as one would use any op. The same bits, whether the inner one is kept or computed again?
  std::vector<std::vector<double>> gradients;
  for (const Checkpoint policy : {Checkpoint::none, Checkpoint::blocks}) {
    Executor::instance().work = {};
    Tape tape({.checkpoint = policy});
    const Tensor loss = mean(sine(sine(x, w, 1), w, 2));
    tape.backward(loss);
    gradients.push_back(w.gradient().to_vector<double>());
    w.zero_gradient();
    std::printf("%-7s dw = %.6f %.6f %.6f, %g flops replayed\n", std::string(name_of(policy)).c_str(),
                gradients.back()[0], gradients.back()[1], gradients.back()[2], Executor::instance().work.replay_flops);
  }
  std::printf("gradients: %s\n", gradients[0] == gradients[1] ? "the same bits" : "DIFFERENT");

  // And right? One element of w, by the derivative's definition.
  const double h = 1e-6, here = w.at(0);
  double around[2];
  for (const int side : {0, 1}) {
    w.data<double>()[0] = here + (side ? h : -h);
    around[side] = mean(sine(sine(x, w, 1), w, 2)).item();
  }
  std::printf("differences: dw[0] = %.6f\n", (around[1] - around[0]) / (2 * h));

  try {
    const Scope scope("encoder.wave");
    sine(x, Tensor::full({4}, 1, DType::f64), 1);
  } catch (const ShapeError& error) {
    std::printf("%s\n", error.what());
  }
}

// Exercise: give the op a phase, y = sin(gain w x + p) with p [C], as an optional third input.

// Prints:
//   none    dw = -0.059946 -0.004280 -0.024061, 0 flops replayed
//   blocks  dw = -0.059946 -0.004280 -0.024061, 1800 flops replayed
//   gradients: the same bits
//   differences: dw[0] = -0.059946
//   [sine] w: got [4] for x [200, 3], expected its last axis alone (in encoder.wave)
