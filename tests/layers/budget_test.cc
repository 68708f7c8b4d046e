// Training under memory budgets: for every kind of model, whatever the policy and down to the smallest budget, weights,
// statistics and the optimizer's state have the same bits after some steps.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>

#include "data/preprocess.h"
#include "engine/core/memory.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/binary.h"
#include "engine/ops/cross_entropy.h"
#include "engine/ops/dropout.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/tape/executor.h"
#include "engine/tape/solver.h"
#include "layers/basic.h"
#include "layers/models/models.h"
#include "optim/adamw.h"
#include "tests/layers/small_nets.h"
#include "tests/support/test.h"

namespace parabola::budget_test {
namespace {

Tensor images_of(const SmallNet& net, int64_t batch, int step) {
  const Preprocessing how = Preprocessing::parse(models::info(net.model).preprocessing);
  std::vector<float> values(static_cast<size_t>(batch * how.height * how.width * how.channels()));
  Random random({.seed = 5, .stream = Stream::test, .item = static_cast<uint32_t>(step)});
  for (float& value : values) value = random.uniform(-1, 1);
  return Tensor::from(values, {batch, how.height, how.width, how.channels()});
}

// With dropout on the images and with mixed targets; the model draws its drop paths.
Tensor loss_of(Module& model, const Tensor& images, const Tensor& labels, const Tensor& partners) {
  const auto times = [](double factor, const Tensor& loss) {
    return loss * Tensor::full({}, factor, loss.dtype(), Category::inputs);
  };
  const Tensor logits = model(dropout(images, 0.25));
  return times(0.75, cross_entropy(logits, labels)) + times(0.25, cross_entropy(logits, partners));
}

struct Trained {
  std::vector<std::vector<float>> values;  // of weights and statistics, then of the optimizer
  size_t peak = 0;
  double replay_flops = 0;
};

Trained train(const SmallNet& net, int64_t batch, const TapeOptions& options, int steps) {
  const auto model = net.create(0.2, 1);
  model->set_training(true);
  AdamW optimizer(trainable(*model), {.lr = 1e-3});
  const Tensor labels = Tensor::full({batch}, 1, DType::i32, Category::inputs),
               partners = Tensor::full({batch}, 2, DType::i32, Category::inputs);
  Memory& memory = Memory::of(Device{});
  Trained result;
  for (int step = 0; step < steps; ++step) {
    const Tensor images = images_of(net, batch, step);
    const size_t before = memory.activation_bytes();
    memory.reset_peak();
    Executor::instance().work = {};
    {
      TapeOptions now = options;
      now.step = static_cast<uint64_t>(step);
      if (now.memory_budget != no_budget) now.memory_budget += before;
      Tape tape(now);
      const Tensor loss = loss_of(*model, images, labels, partners);
      tape.backward(loss);
    }
    result.peak = std::max(result.peak, memory.peak_activation_bytes() - before);
    result.replay_flops = Executor::instance().work.replay_flops;
    optimizer.step();
  }
  for (const Module::Entry& entry : model->tensors()) result.values.push_back(entry.tensor->to_vector<float>());
  for (const Tensor& tensor : optimizer.state()) result.values.push_back(tensor.to_vector<float>());
  return result;
}

// Weights, statistics and the optimizer's state after some steps, whatever the policy and down to the smallest budget.
void check_policies(const SmallNet& net, int64_t batch, int steps) {
  CAPTURE(net.model);
  const Trained expected = train(net, batch, {.checkpoint = Checkpoint::none}, steps);
  for (const Checkpoint checkpoint : {Checkpoint::standard, Checkpoint::blocks})
    CHECK(train(net, batch, {.checkpoint = checkpoint}, steps).values == expected.values);

  const auto model = net.create(0.2, 1);
  model->set_training(true);
  const Tensor images = images_of(net, batch, 0), labels = Tensor::full({batch}, 1, DType::i32, Category::inputs);
  const auto loss = [&] { return loss_of(*model, images, labels, labels); };
  const Frontier frontier(loss);
  const size_t least = frontier.smallest_budget();
  double replayed = 0;
  for (int i = 4; i >= 0; --i) {
    const size_t budget = least + (expected.peak - least) / 4 * static_cast<size_t>(i);
    CAPTURE(budget);
    const PlannedStep* planned = frontier.within(budget);
    REQUIRE(planned);
    TapeOptions options{.memory_budget = budget, .plan = planned->choices};
    options.plan = place_step(options, loss);
    const Trained trained = train(net, batch, options, steps);
    CHECK(trained.values == expected.values);
    CHECK(trained.peak == planned->plan.peak_bytes);
    CHECK(trained.peak <= budget);
    CHECK(trained.replay_flops == planned->plan.replay_flops);
    CHECK(trained.replay_flops >= replayed);
    replayed = trained.replay_flops;
  }
  // Without a plan, as where shapes change.
  const Trained greedy = train(net, batch, {.memory_budget = least + (expected.peak - least) / 2}, steps);
  CHECK(greedy.values == expected.values);
  CHECK(greedy.peak <= least + (expected.peak - least) / 2);
}

// qresnet14 without its products: a convolution where it has three, each with a BatchNorm, and all else alike.
Tensor first_order_loss(const Tensor& images, const Tensor& labels, std::vector<std::unique_ptr<Module>>& made) {
  const auto make = [&]<class Layer>(auto&&... arguments) -> Module& {
    made.push_back(std::make_unique<Layer>(arguments...));
    return *made.back();
  };
  const auto conv_bn = [&](const Tensor& x, int in, int out, int kernel, int stride) {
    Module& conv = make.operator()<Conv2d>(
        Conv2dOptions{.in = in, .out = out, .kernel = kernel, .stride = stride, .padding = kernel / 2, .bias = false});
    Module& norm = make.operator()<BatchNorm>(out);
    return norm(conv(x));
  };
  Tensor x = relu(conv_bn(images, 3, 16, 3, 1));
  int in = 16;
  for (const int out : {16, 32, 64})
    for (const int stride : {out == 16 ? 1 : 2, 1}) {
      const CheckpointScope scope("", x);
      const Tensor y = conv_bn(relu(conv_bn(x, in, out, 3, stride)), out, out, 3, 1);
      x = relu(y + (stride == 1 && in == out ? x : conv_bn(x, in, out, 1, stride)));
      in = out;
    }
  Module& head = make.operator()<Linear>(64, 10);
  return cross_entropy(head(global_average_pool(x)), labels);
}

// Median seconds of a training step under each of the options, which take turns step by step.
std::vector<double> step_seconds(const std::string& model_name, int64_t batch,
                                 const std::function<std::vector<TapeOptions>(const std::function<Tensor()>&)>& ways,
                                 int steps) {
  const SmallNet net{model_name, {}, {}};
  const Tensor images = images_of(net, batch, 0), labels = Tensor::full({batch}, 1, DType::i32, Category::inputs);
  const auto model = net.create(0, 1);
  model->set_training(true);
  AdamW optimizer(trainable(*model), {.lr = 1e-6});
  const auto loss = [&] { return cross_entropy((*model)(images), labels); };
  const std::vector<TapeOptions> options = ways(loss);
  std::vector<std::vector<double>> seconds(options.size());
  for (int step = 0; step < steps + 2; ++step)
    for (size_t i = 0; i < options.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      {
        Tape tape(options[i]);
        tape.backward(loss());
      }
      optimizer.step();
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      if (step >= 2) seconds[i].push_back(took.count());  // the first ones take memory from the system
    }
  std::vector<double> medians;
  for (auto& list : seconds) {
    std::ranges::nth_element(list, list.begin() + std::ssize(list) / 2);
    medians.push_back(list[list.size() / 2]);
  }
  return medians;
}

}  // namespace

TEST_CASE("budget: by default a quadratic net keeps at most 5% more than the first-order net of its shape") {
  const int64_t batch = 8;
  const Tensor images = Tensor::full({batch, 32, 32, 3}, 1, DType::f32, Category::inputs),
               labels = Tensor::full({batch}, 1, DType::i32, Category::inputs);
  const auto saved = [&](const std::function<Tensor()>& loss) {
    return static_cast<double>(plan_step({}, loss).saved_bytes);
  };
  const auto saved_of = [&](const char* name) {
    const auto model = models::create(name, {});
    model->set_training(true);
    return saved([&] { return cross_entropy((*model)(images), labels); });
  };
  std::vector<std::unique_ptr<Module>> made;
  CHECK(saved_of("qresnet14") <= 1.05 * saved([&] { return first_order_loss(images, labels, made); }));
  CHECK(saved_of("quadranet_cifar") <= 1.05 * saved_of("convnext_cifar"));
}

TEST_CASE("budget: every model, every policy, and auto at five budgets: the same bits, and the bytes as planned") {
  set_threads(2);  // each has its scratch, and that of many is more than such small nets keep
  for (const SmallNet& net : small_nets) check_policies(net, 4, long_tests() ? 20 : 3);
}

TEST_CASE("budget: nets of full size at batch 128 have the same bits under every policy and budget") {
  const char* steps = std::getenv("PARABOLA_STEPS");
  if (!steps) SKIP("minutes of training; make bench runs it, with PARABOLA_STEPS=20");
  for (const char* model : {"qresnet14", "quadranet_cifar"}) check_policies({model, {}, {}}, 128, std::stoi(steps));
}

TEST_CASE("budget: one that never binds costs at most 2% of a step, and half of default's peak at most 35%") {
  if (!std::getenv("PARABOLA_STEPS")) SKIP("it looks at the clock, for minutes; PARABOLA_STEPS=20 has it run");
  for (const char* model : {"qresnet14", "quadranet_cifar"}) {
    const auto ways = [](const std::function<Tensor()>& loss) {
      const Frontier frontier(loss);
      const auto within = [&](size_t budget) {
        TapeOptions options{.memory_budget = budget, .plan = frontier.within(budget)->choices};
        options.plan = place_step(options, loss);
        return options;
      };
      const size_t half = plan_step({}, loss).peak_bytes / 2;
      return std::vector<TapeOptions>{{.checkpoint = Checkpoint::none}, within(size_t{1} << 40), {}, within(half)};
    };
    const std::vector<double> seconds = step_seconds(model, 128, ways, 30);
    std::cout << model << ": a budget that never binds takes " << seconds[1] / seconds[0]
              << " of the time of `none`, half "
              << "of the peak of `default` " << seconds[3] / seconds[2] << " of its time" << std::endl;
    CHECK(seconds[1] <= 1.02 * seconds[0]);
    CHECK(seconds[3] <= 1.35 * seconds[2]);
  }
}

}  // namespace parabola::budget_test
