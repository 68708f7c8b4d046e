// A program that uses the installed library, with an op that the engine does not know: y = x^3.
#include <parabola/parabola.h>

#include <cstdio>

using namespace parabola;

void forward(const ForwardArgs& args) {
  const float* x = args.inputs[0].data<float>();
  for (int64_t i = 0; i < args.inputs[0].shape.elements(); ++i) args.outputs[0].data<float>()[i] = x[i] * x[i] * x[i];
}

void backward(const BackwardArgs& args) {
  const float *x = args.inputs[0].data<float>(), *dy = args.output_gradients[0].data<float>();
  float* dx = args.input_gradients[0].data<float>();
  for (int64_t i = 0; i < args.inputs[0].shape.elements(); ++i)
    dx[i] = (args.accumulates(0) ? dx[i] : 0) + 3 * x[i] * x[i] * dy[i];
}

const OpDef cube_op = {
    .name = "cube",
    .layout = [](const Signature& s) { return Layout{.outputs = {s.inputs[0]}}; },
    .needs = [](const Signature&) { return Needs{.inputs = 1}; },
    .cpu = {forward, backward},
};

int main() {
  const Tensor x = Tensor::from<float>(std::vector<float>{-1, 2, 3}, {3});
  x.set_requires_gradient(true);
  Tape tape;
  const Tensor loss = sum(relu(apply(cube_op, {x})));
  tape.backward(loss);
  const std::vector<float> dx = x.gradient().to_vector<float>();
  std::printf("loss %g, gradient %g %g %g\n", loss.item(), dx[0], dx[1], dx[2]);
  std::printf("mlp: %zu parameter tensors\n", trainable(*models::create("mlp")).size());
}
