#include <doctest/doctest.h>

#include <cmath>

#include "engine/core/error.h"
#include "engine/ops/binary.h"
#include "engine/ops/reduce.h"
#include "engine/tape/tape.h"
#include "optim/adamw.h"
#include "optim/ema.h"
#include "optim/schedule.h"
#include "optim/sgd.h"

namespace parabola::optim_test {

namespace {

Tensor parameter(const std::vector<double>& values) {
  Tensor p = Tensor::from(values, Shape{static_cast<int64_t>(values.size())}, Category::parameters);
  p.set_requires_gradient(true);
  return p;
}

// One step on the loss sum(p * p), whose gradient is 2 p.
void square_step(const Tensor& p, Optimizer& optimizer) {
  {
    Tape tape;
    tape.backward(sum(p * p));
  }
  optimizer.step();
}

}  // namespace

TEST_CASE("schedule: warm-up rises linearly to the peak, cosine falls to nothing, step at its milestones") {
  const Schedule cosine{.kind = "cosine", .peak = 2.0, .warmup_steps = 4, .total_steps = 12};
  CHECK(cosine.rate(0) == doctest::Approx(0.5));
  CHECK(cosine.rate(3) == doctest::Approx(2.0));
  CHECK(cosine.rate(4) == doctest::Approx(2.0));
  CHECK(cosine.rate(8) == doctest::Approx(1.0));  // half of the way
  CHECK(cosine.rate(11) == doctest::Approx(1 + std::cos(std::acos(-1.0) * 7 / 8)));
  CHECK(cosine.rate(12) == doctest::Approx(0.0));
  const Schedule constant{.kind = "constant", .peak = 0.3, .warmup_steps = 0, .total_steps = 10};
  CHECK(constant.rate(0) == 0.3);
  CHECK(constant.rate(1000) == 0.3);
  const Schedule step{.kind = "step", .peak = 0.5, .warmup_steps = 2, .total_steps = 8};
  CHECK(step.rate(0) == 0.25);
  CHECK(step.rate(3) == 0.5);
  CHECK(step.rate(4) == doctest::Approx(0.05));  // half of the steps lie behind
  CHECK(step.rate(5) == doctest::Approx(0.05));
  CHECK(step.rate(6) == doctest::Approx(0.005));
  CHECK(step.rate(7) == doctest::Approx(0.005));
  const Schedule own{.kind = "step", .peak = 1, .total_steps = 10, .milestones = {0.25}, .gamma = 0.5};
  CHECK(own.rate(2) == 1);
  CHECK(own.rate(3) == 0.5);
  // A run shorter than its warm-up never divides by zero.
  CHECK(std::isfinite(Schedule{.warmup_steps = 20, .total_steps = 3}.rate(25)));
}

TEST_CASE("sgd: two steps with momentum and weight decay by hand") {
  const Tensor p = parameter({1.0, -2.0});
  Sgd optimizer({p}, {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.5});
  square_step(p, optimizer);
  // d = 2 p + 0.5 p = 2.5 p; m = d; p -= 0.1 d = p (1 - 0.25)
  CHECK(p.at(0) == doctest::Approx(0.75));
  CHECK(p.at(1) == doctest::Approx(-1.5));
  square_step(p, optimizer);
  // m = 0.9 * 2.5 + 2.5 * 0.75 = 4.125
  CHECK(p.at(0) == doctest::Approx(0.75 - 0.4125));
  CHECK(optimizer.updates() == 2);
}

TEST_CASE("sgd: Nesterov's momentum by hand, and not without momentum") {
  const Tensor p = parameter({1.0});
  Sgd optimizer({p}, {.lr = 0.1, .momentum = 0.5, .nesterov = true});
  square_step(p, optimizer);  // d = 2, m = 2, p -= 0.1 (2 + 0.5 * 2)
  CHECK(p.at(0) == doctest::Approx(0.7));
  square_step(p, optimizer);  // d = 1.4, m = 2.4, p -= 0.1 (1.4 + 0.5 * 2.4)
  CHECK(p.at(0) == doctest::Approx(0.44));
  CHECK_THROWS_WITH_AS(Sgd({p}, {.nesterov = true}), doctest::Contains("expected a momentum above 0"), UsageError);
}

TEST_CASE("adamw: the first step moves every element by the learning rate, whatever its gradient") {
  const Tensor p = parameter({1.0, -2.0, 30.0});
  AdamW optimizer({p}, {.lr = 0.01});
  square_step(p, optimizer);
  CHECK(p.at(0) == doctest::Approx(0.99));
  CHECK(p.at(1) == doctest::Approx(-1.99));
  CHECK(p.at(2) == doctest::Approx(29.99));
}

TEST_CASE("clipping scales all gradients to the global norm") {
  const Tensor p = parameter({3.0, 0.0}), q = parameter({4.0});
  Sgd optimizer({p, q}, {.lr = 1.0, .clip = 1.0});
  {
    Tape tape;
    tape.backward(sum(p * p) + sum(q * q));  // gradients 6, 0 and 8: norm 10
  }
  optimizer.step();
  CHECK(optimizer.gradient_norm().item() == doctest::Approx(10.0));
  CHECK(p.at(0) == doctest::Approx(3.0 - 0.6).epsilon(1e-5));
  CHECK(q.at(0) == doctest::Approx(4.0 - 0.8).epsilon(1e-5));
}

TEST_CASE("optimizer: misuse is an error that says so") {
  CHECK_THROWS_WITH_AS(AdamW(std::vector<Tensor>{}, {}), doctest::Contains("no parameters"), UsageError);
  const Tensor p = parameter({1.0});
  Sgd optimizer({p}, {});
  CHECK_THROWS_WITH_AS(optimizer.step(), doctest::Contains("has no gradient"), UsageError);
  CHECK(p.at(0) == 1.0);
}

TEST_CASE("ema: a young average follows, an old one decays; a swap is exact and undone by another") {
  const Tensor p = parameter({0.3, -2.0});
  Sgd optimizer({p}, {.lr = 0.25});  // p halves in each step
  Ema ema({p}, 0.5);
  double expected = 0.3;
  for (int t = 1; t <= 12; ++t) {
    square_step(p, optimizer);
    ema.update();
    expected += std::max(0.5, 9.0 / (10 + t)) * (p.at(0) - expected);
    CHECK(ema.averages()[0].at(0) == doctest::Approx(expected).epsilon(1e-6));
  }
  const std::vector<double> own = p.to_vector<double>(), average = ema.averages()[0].to_vector<double>();
  CHECK(own != average);
  ema.swap();
  CHECK(p.to_vector<double>() == average);
  CHECK(ema.averages()[0].to_vector<double>() == own);
  ema.swap();
  CHECK(p.to_vector<double>() == own);
  ema.restart();
  ema.update();
  CHECK(ema.averages()[0].to_vector<double>() == own);  // bit for bit
}

TEST_CASE("groups: a rate and a weight decay of their own, by the first rule that matches") {
  const Tensor w = parameter({1.0}), b = parameter({1.0}), head = parameter({1.0});
  const NamedTensors named = {{"a.weight", w}, {"a.bias", b}, {"head.bias", head}};
  const GroupRule rules[] = {{.match = "head.*", .lr_factor = 2}, {.match = "*.bias", .weight_decay = 0.0}};
  Sgd optimizer(parameter_groups(named, rules), {.lr = 0.1, .weight_decay = 0.5, .clip = 1e9});
  {
    Tape tape;
    tape.backward(sum(w * w) + sum(b * b) + sum(head * head));
  }
  optimizer.step();
  CHECK(w.at(0) == doctest::Approx(1 - 0.1 * 2.5));
  CHECK(b.at(0) == doctest::Approx(1 - 0.1 * 2));
  CHECK(head.at(0) == doctest::Approx(1 - 0.2 * 2.5));
  CHECK(optimizer.learning_rate() == 0.1);
  CHECK(optimizer.gradient_norm().item() == doctest::Approx(std::sqrt(12.0)));  // of all groups together
  const GroupRule wrong[] = {{.match = "*"}, {.match = "head.*"}};
  CHECK_THROWS_WITH_AS(parameter_groups(named, wrong), doctest::Contains("no parameter is left for 'head.*'"),
                       UsageError);
}

TEST_CASE("groups: momenta and moments belong to their parameters, however these are grouped") {
  std::vector<std::vector<double>> results;
  for (const bool grouped : {false, true}) {
    const Tensor p = parameter({1.0, -2.0}), q = parameter({3.0, 0.5, 0.25});
    const NamedTensors named = {{"p", p}, {"q", q}};
    const GroupRule rules[] = {{.match = "q"}};
    const std::vector<ParameterGroup> groups = parameter_groups(named, std::span(rules, grouped ? 1 : 0));
    CHECK(groups.size() == (grouped ? 2 : 1));
    AdamW adamw(groups, {.lr = 0.05, .weight_decay = 0.1, .clip = 1});
    Sgd sgd(groups, {.lr = 0.05, .momentum = 0.9});
    for (int i = 0; i < 4; ++i) {
      {
        Tape tape;
        tape.backward(sum(p * p) + sum(q * q * q));
      }
      if (i % 2)
        sgd.step();
      else
        adamw.step();
    }
    results.push_back(p.to_vector<double>());
    results.push_back(q.to_vector<double>());
  }
  CHECK(results[0] == results[2]);
  CHECK(results[1] == results[3]);
}

TEST_CASE("groups: layer-wise decay counts layers from the head, norms with the layer before") {
  const auto matrix = [] { return Tensor::full({2, 2}, 1); };
  const auto vector = [] { return Tensor::full({2}, 1); };
  const NamedTensors named = {
      {"conv1.weight", matrix()},      {"bn1.weight", vector()},       {"layer1.0.conv1.weight", matrix()},
      {"layer1.0.bn1.bias", vector()}, {"stages.0.1.gamma", vector()}, {"stages.0.1.mix.weight", matrix()},
      {"norm.weight", vector()},       {"head.weight", matrix()},      {"head.bias", vector()}};
  const std::vector<ParameterGroup> groups = layer_decay_groups(named, 0.5);
  std::vector<std::pair<size_t, double>> seen;
  for (const ParameterGroup& group : groups) seen.emplace_back(group.parameters.size(), group.lr_factor);
  CHECK(seen == std::vector<std::pair<size_t, double>>{{2, 0.125}, {2, 0.25}, {3, 0.5}, {2, 1}});
  CHECK(layer_decay_groups(named, 1).size() == 1);
  CHECK(layer_decay_groups(named, 1)[0].lr_factor == 1);
}

}  // namespace parabola::optim_test
