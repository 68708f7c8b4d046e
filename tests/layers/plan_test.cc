// Planning: for every model, at reduced width, what a plan says is what the step takes, to the byte; and a plan leaves
// nothing behind.
#include "engine/tape/plan.h"

#include "data/preprocess.h"
#include "engine/core/memory.h"
#include "engine/ops/cross_entropy.h"
#include "engine/tape/executor.h"
#include "layers/models/models.h"
#include "tests/layers/small_nets.h"
#include "tests/support/test.h"

namespace parabola::plan_test {
namespace {

std::vector<std::vector<float>> values_of(const Module& model) {
  std::vector<std::vector<float>> values;
  for (const Module::Entry& entry : model.tensors()) values.push_back(entry.tensor->to_vector<float>());
  return values;
}

}  // namespace

TEST_CASE("plan: the bytes and the replayed work of the step, and nothing has changed") {
  Memory& memory = Memory::of(Device{});
  WorkCounters& work = Executor::instance().work;
  for (const SmallNet& net : small_nets) {
    const auto model = net.create(0.1, 1);
    model->set_training(true);
    const Preprocessing how = Preprocessing::parse(models::info(net.model).preprocessing);
    const Tensor images = Tensor::full({6, how.height, how.width, how.channels()}, 0.5, DType::f32, Category::inputs);
    const Tensor labels = Tensor::full({6}, 1, DType::i32, Category::inputs);
    const auto loss = [&] { return cross_entropy((*model)(images), labels); };
    for (const Checkpoint checkpoint : {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks}) {
      CAPTURE(net.model);
      CAPTURE(std::string(name_of(checkpoint)));
      const auto before = values_of(*model);
      const size_t alive = memory.activation_bytes();
      const double flops = work.flops;
      const Plan plan = plan_step({.checkpoint = checkpoint}, loss);
      CHECK(memory.activation_bytes() == alive);
      CHECK(work.flops == flops);
      CHECK(values_of(*model) == before);
      for (const Module::Entry& entry : model->tensors()) CHECK_FALSE(entry.tensor->gradient().defined());

      work = {};
      memory.reset_peak();
      size_t saved = 0;
      {
        Tape tape({.checkpoint = checkpoint});
        const Tensor root = loss();
        saved = memory.activation_bytes() - alive;
        tape.backward(root);
      }
      CHECK(plan.saved_bytes == saved);
      CHECK(plan.peak_bytes == memory.peak_activation_bytes() - alive);
      CHECK(plan.flops == work.flops);
      CHECK(plan.replay_flops == work.replay_flops);
      for (const Module::Entry& entry : model->tensors()) entry.tensor->zero_gradient();
    }
  }
}

TEST_CASE("plan: what goes wrong in a step goes wrong in its plan, and kernels run again afterwards") {
  const Tensor images = Tensor::full({2, 32, 32, 3}, 0.5);
  const auto model = small_nets[0].create(0, 1);
  const Tensor labels = Tensor::full({3}, 1, DType::i32, Category::inputs);
  CHECK_THROWS_AS(plan_step({}, [&] { return cross_entropy((*model)(images), labels); }), ShapeError);
  model->set_training(false);
  CHECK((*model)(images).to_vector<float>() == (*model)(images).to_vector<float>());
}

}  // namespace parabola::plan_test
