// Chapter 10. The same step on a GPU
//
// At the end of this chapter you know what has to change for a program to train on a GPU (where its tensors lie, and
// nothing else), and what the engine says where there is none. `make tutorial CUDA=1` builds this chapter with CUDA.
#include <cmath>
#include <cstdio>

#include "engine/core/device.h"
#include "engine/core/random.h"
#include "engine/ops/cross_entropy.h"
#include "engine/tape/tape.h"
#include "layers/models/models.h"
#include "optim/sgd.h"

using namespace parabola;

// Three steps of training on `device`; the losses before each of them.
std::vector<double> train(Device device) {
  const auto model = models::create("qmlp", {.widths = {32}}, 10);  // drawn on the CPU: the same weights everywhere
  model->set_device(device);                                        // parameters go there, before the optimizer is made
  Sgd optimizer(trainable(*model), {.lr = 0.05, .momentum = 0.9});

  Random random({.seed = 10, .stream = Stream::data});
  const Tensor images = Tensor::empty({64, 784}), labels = Tensor::empty({64}, DType::i32);
  for (float& value : images.span<float>()) value = random.uniform();
  for (int32_t& label : labels.span<int32_t>()) label = static_cast<int32_t>(random.below(10));
  const Tensor x = images.to(device, Category::inputs), t = labels.to(device, Category::inputs);

  std::vector<double> losses;
  for (int step = 0; step < 3; ++step) {
    Tape tape;
    const Tensor loss = cross_entropy(model->forward(x), t);  // ops run where their inputs are
    tape.backward(loss);
    optimizer.step();
    losses.push_back(loss.item());  // waits for the device and copies one number; keep such questions out of loops
  }
  return losses;
}

void print(const std::vector<double>& losses) {
  for (const double loss : losses) std::printf(" %.3f", loss);
  std::printf("\n");
}

int main() {
  const std::vector<double> here = train({});
  std::printf("cpu: losses");
  print(here);

  std::printf(
      "cuda:0: the same weights and the same batch, copied there once; then each op's CUDA kernel instead of\n"
      "the CPU's, one after the other in the device's stream. The losses should agree to five digits, not in\n"
      "every bit: sums are added up in another order there.\n");
  const Device gpu{DeviceKind::cuda, 0};
  try {
    require_device(gpu);  // is there one, and can this program use it? What is missing, it says in one line.
    const std::vector<double> there = train(gpu);
    std::printf("result: %s; losses", backend_of(gpu).describe(0).c_str());
    print(there);
    for (size_t i = 0; i < here.size(); ++i)
      if (std::abs(here[i] - there[i]) > 1e-5 * here[i]) return std::printf("The two DIFFER.\n"), 1;
  } catch (const DeviceError& error) {
    std::printf("result: none, %s\n", error.what());
  }
}

// Exercise: leave out model->set_device(device) and see what the engine says of an op whose inputs are on two devices.

// Prints:
//   cpu: losses 2.286 2.246 2.201
//   cuda:0: the same weights and the same batch, copied there once; then each op's CUDA kernel instead of
//   the CPU's, one after the other in the device's stream. The losses should agree to five digits, not in
//   every bit: sums are added up in another order there.
//   result: ...
