// Training on a device: every model of the registry, at reduced width, follows the CPU step by step.
#include <fstream>
#include <iterator>

#include "data/loader.h"
#include "data/synthetic.h"
#include "engine/ops/cross_entropy.h"
#include "engine/tape/tape.h"
#include "layers/adapter.h"
#include "layers/models/models.h"
#include "layers/weights.h"
#include "optim/adamw.h"
#include "optim/sgd.h"
#include "tests/layers/small_nets.h"
#include "tests/support/test.h"

namespace parabola::device_test {
namespace {

// Losses of `steps` training steps with dropped paths, the last two on an epoch of their own.
std::vector<double> train(const SmallNet& net, Device device, int steps) {
  const Preprocessing preprocessing = Preprocessing::parse(models::info(net.model).preprocessing);
  const auto model = net.create(0.2, 3);
  model->set_device(device);
  const int64_t batch = 4;
  Loader loader(synthetic_dataset("twin", 7, batch * (steps - 2), 10, preprocessing.height, preprocessing.width),
                {.batch = batch, .shuffle = true, .preprocessing = preprocessing, .device = device});
  std::unique_ptr<Optimizer> optimizer;
  if (net.adapters)
    optimizer = std::make_unique<AdamW>(trainable(*model), AdamW::Options{.lr = 1e-3, .weight_decay = 0.01, .clip = 5});
  else
    optimizer = std::make_unique<Sgd>(trainable(*model), Sgd::Options{.lr = 1e-2, .momentum = 0.9, .clip = 1});
  std::vector<double> losses;
  while (losses.size() < static_cast<size_t>(steps))
    for (const Batch& here : loader) {
      Tape tape({.seed = 9, .step = losses.size()});
      const Tensor loss = cross_entropy((*model)(here.images), here.labels);
      losses.push_back(loss.item());
      tape.backward(loss);
      optimizer->step();
      if (losses.size() == static_cast<size_t>(steps)) break;
    }
  return losses;
}

}  // namespace

TEST_CASE("device: models train and are saved there") {
  if (test_device() == Device{}) SKIP("PARABOLA_TEST_DEVICE names no device besides the CPU");
  SUBCASE("training steps of every model track the CPU's loss to 1e-3") {
    const int steps = long_tests() ? 20 : sanitized() ? 3 : 6;
    for (const SmallNet& net : small_nets) {
      CAPTURE(net.model);
      CAPTURE(net.adapters);
      const std::vector<double> expected = train(net, Device{}, steps), actual = train(net, test_device(), steps);
      CHECK(expected.front() != expected.back());
      for (size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(i);
        CHECK(actual[i] == doctest::Approx(expected[i]).epsilon(1e-3));
      }
    }
  }
  SUBCASE("a file does not tell where its model was") {
    const auto model = small_nets[0].create(0, 3);
    const std::string folder = scratch_folder();
    save_weights(*model, folder + "/cpu.safetensors", {});
    model->set_device(test_device());
    CHECK(device_of(*model) == test_device());
    save_weights(*model, folder + "/device.safetensors", {});
    const auto bytes = [&](const char* name) {
      std::ifstream in(folder + name, std::ios::binary);
      return std::string(std::istreambuf_iterator<char>(in), {});
    };
    CHECK(bytes("/cpu.safetensors").size() > 1000);
    CHECK(bytes("/cpu.safetensors") == bytes("/device.safetensors"));
    load_weights(*model, folder + "/cpu.safetensors");
    CHECK(device_of(*model) == test_device());
  }
}

}  // namespace parabola::device_test
