// Planned forward passes: the bits of the model's own, in no more memory than what lives at once.
#include "layers/inference.h"

#include <algorithm>

#include "engine/core/error.h"
#include "engine/core/memory.h"
#include "engine/core/random.h"
#include "engine/ops/batch_norm.h"
#include "engine/ops/binary.h"
#include "engine/ops/relu.h"
#include "engine/ops/view.h"
#include "engine/tape/executor.h"
#include "engine/tape/tape.h"
#include "layers/models/models.h"
#include "tests/layers/small_nets.h"
#include "tests/support/test.h"

namespace parabola::inference_test {
namespace {

Tensor random_images(const Shape& shape, uint32_t item) {
  const Tensor images = Tensor::empty(shape, DType::f32, Category::inputs);
  Random random({.seed = 3, .stream = Stream::test, .item = item});
  for (float& value : images.span<float>()) value = static_cast<float>(random.normal());
  return images;
}

}  // namespace

TEST_CASE("inference: every model gives its own bits, for each shape and in each run") {
  for (const SmallNet& net : small_nets) {
    CAPTURE(net.model);
    CAPTURE(net.adapters);
    const auto model = net.create(0, 1);
    model->set_training(false);
    Inference infer(*model);
    const Shape& image = models::info(net.model).image;
    const int64_t size = std::min<int64_t>(image[0], 63);
    for (uint32_t run = 0; run < 4; ++run) {
      const Tensor images = random_images({1 + run % 2, size, size, image[2]}, run);
      CHECK(infer(images).to_vector<float>() == (*model)(images).to_vector<float>());
    }
  }
}

TEST_CASE("inference: holds what a later op reads, and no more; a result outlives the next run") {
  Memory& memory = Memory::of({});
  for (const SmallNet& net : small_nets) {
    CAPTURE(net.model);
    const auto model = net.create(0, 1);
    model->set_training(false);
    const Shape& image = models::info(net.model).image;
    const int64_t size = std::min<int64_t>(image[0], 63);
    const Tensor images = random_images({3, size, size, image[2]}, 0);
    const size_t before = memory.activation_bytes();
    const auto peak_of = [&](auto&& forward) {
      memory.reset_peak();
      forward(images);
      CHECK(memory.activation_bytes() == before);
      return memory.peak_activation_bytes() - before;
    };
    const size_t own = peak_of(*model);
    Inference infer(*model);
    infer(images);  // planned now
    const double work = Executor::instance().work.flops;
    const size_t planned = peak_of(infer);
    CHECK(Executor::instance().work.flops > work);
    CHECK(planned <= own + own / 50 + 256);  // places are aligned to 64 bytes
    const Tensor result = infer(images);
    const std::vector<float> values = result.to_vector<float>();
    infer(random_images(images.shape(), 1));
    CHECK(result.to_vector<float>() == values);
  }
}

TEST_CASE("inference: weights are read where they lie") {
  const auto model = models::create("mlp", {.widths = {4}});
  model->set_training(false);
  Inference infer(*model);
  const Tensor images = random_images({2, 784}, 0);
  const std::vector<float> before = infer(images).to_vector<float>();
  const Tensor bias = *model->tensors().back().tensor;
  bias.copy_from(Tensor::full(bias.shape(), 7));
  const std::vector<float> after = infer(images).to_vector<float>();
  CHECK(after != before);
  CHECK(after == (*model)(images).to_vector<float>());
}

TEST_CASE("inference: a pass reads views of its input, and its result may be a view") {
  const auto forward = [](const Tensor& x) { return reshape(relu(reshape(x, {6})) + reshape(x, {6}), {3, 2}); };
  const Tensor both = random_images({2, 2, 3}, 0), x = both.view({2, 3}, 6);
  PlannedPass pass(forward, x);
  CHECK(pass(x).to_vector<float>() == forward(x).to_vector<float>());
  CHECK(pass(x).shape() == Shape{3, 2});
  const Tensor other = both.view({2, 3});
  CHECK(pass(other).to_vector<float>() == forward(other).to_vector<float>());
}

TEST_CASE("inference: what cannot be planned is refused") {
  const auto model = models::create("resnet20", {.widths = {4}, .depths = {1}});
  CHECK_THROWS_WITH_AS(Inference{*model}, doctest::Contains("training mode"), UsageError);
  const Tensor x = random_images({2, 8, 8, 3}, 0);
  const auto planned = [&](const std::function<Tensor(const Tensor&)>& forward) { return PlannedPass(forward, x); };
  CHECK_THROWS_WITH_AS(planned([&](const Tensor& images) { return (*model)(images); }),
                       doctest::Contains("changes its inputs"), UsageError);
  CHECK_THROWS_WITH_AS(planned([](const Tensor& images) { return images; }), doctest::Contains("no op"), UsageError);
  PlannedPass pass = planned([](const Tensor& images) { return relu(images); });
  CHECK_THROWS_WITH_AS(pass(random_images({1, 8, 8, 3}, 0)), doctest::Contains("got [1, 8, 8, 3]"), ShapeError);
  CHECK_THROWS_WITH_AS(pass(x.to(DType::f64, Category::inputs)), doctest::Contains("f64"), ShapeError);
  const Tape tape;
  CHECK_THROWS_WITH_AS(planned([](const Tensor& images) { return relu(images); }), doctest::Contains("tape is open"),
                       UsageError);
}

}  // namespace parabola::inference_test
