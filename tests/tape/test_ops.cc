#include "tests/tape/test_ops.h"

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/core/memory.h"
#include "engine/tape/tape.h"

namespace parabola::test {
namespace {

Fault fault = Fault::none;
int runs_before_fault = 0;

// Counts a kernel's run. Half way through its results it fails where that was asked for.
template <class Write>
void run(Fault kind, int64_t elements, const Write& write) {
  const bool fails = fault == kind && runs_before_fault-- == 0;
  (kind == Fault::forward ? calls.forward : kind == Fault::replay ? calls.replay : calls.backward) += 1;
  for (int64_t i = 0; i < (fails ? elements / 2 : elements); ++i) write(i);
  if (!fails) return;
  fault = Fault::none;
  fail<Error>("test", "the fault that was asked for");
}

template <class Write>
void run_forward(const ForwardArgs& args, const Write& write) {
  run(args.replay ? Fault::replay : Fault::forward, args.inputs[0].shape.elements(), write);
}

// dx = derivative(i), or += where told so.
template <class Derivative>
void run_backward(const BackwardArgs& args, const Derivative& derivative) {
  float* dx = args.input_gradients[0].data<float>();
  run(Fault::backward, args.input_gradients[0].shape.elements(), [&](int64_t i) {
    const float d = derivative(i);
    dx[i] = args.accumulates(0) ? dx[i] + d : d;
  });
}

Layout same(const Signature& s) { return {.outputs = {s.inputs[0]}}; }
StepCost cost(const Signature& s) {  // as if each element took 2 flops forward and 3 backward
  const double n = static_cast<double>(s.shape(0).elements());
  return {{.flops = 2 * n}, {.flops = 3 * n}};
}
Needs reads_input(const Signature&) { return {.inputs = 1}; }

float drawn(const RandomKey& key, int64_t i) {
  return unit_float(philox(key, static_cast<uint32_t>(i / 4))[static_cast<size_t>(i % 4)]);
}

}  // namespace

Calls calls;
void set_fault(Fault kind, int after) {
  fault = kind;
  runs_before_fault = after;
}

const OpDef scale_op = {
    .name = "test_scale",
    .layout = same,
    .cost = cost,
    .cpu = {[](const ForwardArgs& a) {
              const float *x = a.inputs[0].data<float>(), factor = a.attributes.get<float>();
              float* y = a.outputs[0].data<float>();
              run_forward(a, [=](int64_t i) { y[i] = factor * x[i]; });
            },
            [](const BackwardArgs& a) {
              const float *dy = a.output_gradients[0].data<float>(), factor = a.attributes.get<float>();
              run_backward(a, [=](int64_t i) { return factor * dy[i]; });
            }},
};

const OpDef squared_op = {
    .name = "test_squared",
    .layout = same,
    .cost = cost,
    .needs = reads_input,
    .cpu = {[](const ForwardArgs& a) {
              const float* x = a.inputs[0].data<float>();
              float* y = a.outputs[0].data<float>();
              run_forward(a, [=](int64_t i) { y[i] = x[i] * x[i]; });
            },
            [](const BackwardArgs& a) {
              const float *x = a.inputs[0].data<float>(), *dy = a.output_gradients[0].data<float>();
              run_backward(a, [=](int64_t i) { return 2 * x[i] * dy[i]; });
            }},
};

const OpDef cube_op = {
    .name = "test_cube",
    .layout = [](const Signature& s) { return Layout{.outputs = {s.inputs[0]}, .auxiliary = {s.inputs[0]}}; },
    .cost = cost,
    .needs = [](const Signature&) { return Needs{.auxiliary = 1}; },
    .policy = Policy::recompute,
    .cpu = {[](const ForwardArgs& a) {
              const float* x = a.inputs[0].data<float>();
              float *y = a.outputs[0].data<float>(), *square = a.auxiliary[0].data<float>();
              run_forward(a, [&](int64_t i) {
                if (!a.auxiliary_ready) square[i] = x[i] * x[i];
                y[i] = x[i] * square[i];
              });
            },
            [](const BackwardArgs& a) {
              const float *square = a.auxiliary[0].data<float>(), *dy = a.output_gradients[0].data<float>();
              run_backward(a, [=](int64_t i) { return 3 * square[i] * dy[i]; });
            }},
};

const OpDef powers_op = {
    .name = "test_powers",
    .layout =
        [](const Signature& s) {
          return Layout{.outputs = {s.inputs[0], s.inputs[0]}};
        },
    .cost = cost,
    .needs = reads_input,
    .policy = Policy::recompute,
    .cpu = {[](const ForwardArgs& a) {
              const float* x = a.inputs[0].data<float>();
              float *square = a.outputs[0].data<float>(), *cube = a.outputs[1].data<float>();
              run_forward(a, [=](int64_t i) {
                square[i] = x[i] * x[i];
                cube[i] = x[i] * square[i];
              });
            },
            [](const BackwardArgs& a) {
              const float *x = a.inputs[0].data<float>(), *d_square = a.output_gradients[0].data<float>(),
                          *d_cube = a.output_gradients[1].data<float>();
              run_backward(a, [=](int64_t i) { return 2 * x[i] * d_square[i] + 3 * x[i] * x[i] * d_cube[i]; });
            }},
};

const OpDef noise_op = {
    .name = "test_noise",
    .layout = same,
    .cost = cost,
    .policy = Policy::recompute,
    .random = true,
    .cpu = {[](const ForwardArgs& a) {
              const float* x = a.inputs[0].data<float>();
              float* y = a.outputs[0].data<float>();
              run_forward(a, [&](int64_t i) { y[i] = x[i] * drawn(a.random, i); });
            },
            [](const BackwardArgs& a) {
              const float* dy = a.output_gradients[0].data<float>();
              run_backward(a, [&](int64_t i) { return dy[i] * drawn(a.random, i); });
            }},
};

const OpDef count_op = {
    .name = "test_count",
    .layout = same,
    .cost = cost,
    .policy = Policy::recompute,
    .mutates = 2,
    .cpu = {[](const ForwardArgs& a) {
              const float* x = a.inputs[0].data<float>();
              float* y = a.outputs[0].data<float>();
              run_forward(a, [=](int64_t i) { y[i] = x[i]; });
              if (!a.replay) *a.inputs[1].data<float>() += 1;
            },
            [](const BackwardArgs& a) {
              const float* dy = a.output_gradients[0].data<float>();
              run_backward(a, [=](int64_t i) { return dy[i]; });
            }},
};

Tensor scale(const Tensor& x, float factor) { return apply(scale_op, {x}, factor); }
Tensor squared(const Tensor& x) { return apply(squared_op, {x}); }
Tensor cube(const Tensor& x) { return apply(cube_op, {x}); }
std::vector<Tensor> powers(const Tensor& x) { return apply(powers_op, std::span<const Tensor>(&x, 1)); }
Tensor noise(const Tensor& x) { return apply(noise_op, {x}); }
Tensor count(const Tensor& x, const Tensor& counter) { return apply(count_op, {x, counter}); }

Tensor leaf(const std::vector<float>& values, bool trained) {
  const Tensor tensor = Tensor::from(values, {static_cast<int64_t>(values.size())});
  if (trained) tensor.set_requires_gradient(true);
  return tensor;
}

std::vector<float> values_of(const Tensor& tensor) { return tensor ? tensor.to_vector<float>() : std::vector<float>(); }

size_t activation_bytes() { return Memory::of({}).activation_bytes(); }

void require_nothing_left(size_t bytes_before) {
  REQUIRE(activation_bytes() == bytes_before);
  REQUIRE(Tape::current() == nullptr);
  REQUIRE(Scope::current().empty());
}

}  // namespace parabola::test
