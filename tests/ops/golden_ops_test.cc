// Ops against PyTorch's own values, in f64 and f32.
#include <doctest/doctest.h>

#include "engine/ops/batch_norm.h"
#include "engine/ops/cross_entropy.h"
#include "engine/ops/gelu.h"
#include "engine/ops/layer_norm.h"
#include "engine/ops/optimizers.h"
#include "engine/ops/reduce.h"
#include "engine/ops/view.h"
#include "engine/tape/executor.h"
#include "engine/tape/tape.h"
#include "tests/ops/golden.h"

namespace parabola::golden_ops_test {

using namespace test;

namespace {

constexpr DType both[] = {DType::f64, DType::f32};

// Row i of a [steps, n] tensor.
Tensor row(const Tensor& t, int64_t i) { return view(t, {t.shape()[1]}, i * t.shape()[1]); }

}  // namespace

TEST_CASE("golden: batch_norm in training and evaluation") {
  for (const DType dtype : both) {
    for (const bool training : {true, false}) {
      const GoldenCase golden(training ? "batch_norm_train" : "batch_norm_eval", dtype, true);
      const Tensor x = golden.leaf("input"), gamma = golden.leaf("weight"), beta = golden.leaf("bias"),
                   mean = golden.get("running_mean"), variance = golden.get("running_var");
      Tape tape;
      const Tensor y = batch_norm(x, gamma, beta, mean, variance, {.momentum = 0.1, .eps = 1e-5, .training = training});
      golden.check_gradients(y, {{"input", x}, {"weight", gamma}, {"bias", beta}});
      golden.check("after/running_mean", mean);
      golden.check("after/running_var", variance);
    }
  }
}

TEST_CASE("golden: layer_norm") {
  for (const DType dtype : both) {
    const GoldenCase golden("layer_norm", dtype);
    const Tensor x = golden.leaf("input"), gamma = golden.leaf("weight"), beta = golden.leaf("bias");
    Tape tape;
    golden.check_gradients(layer_norm(x, gamma, beta, 1e-6), {{"input", x}, {"weight", gamma}, {"bias", beta}});
  }
}

TEST_CASE("golden: gelu") {
  for (const DType dtype : both) {
    const GoldenCase golden("gelu", dtype);
    const Tensor x = golden.leaf("input");
    Tape tape;
    golden.check_gradients(gelu(x), {{"input", x}});
  }
}

TEST_CASE("golden: cross_entropy") {
  for (const DType dtype : both) {
    const GoldenCase golden("softmax_cross_entropy", dtype);
    const Tensor logits = golden.leaf("input");
    Tape tape;
    golden.check_gradients(cross_entropy(logits, golden.get("labels")), {{"input", logits}});
  }
}

TEST_CASE("golden: five steps of sgd and adamw") {
  for (const DType dtype : both) {
    for (const char* name : {"sgd", "sgd_nesterov", "adamw"}) {
      const bool is_sgd = std::string(name) != "adamw", nesterov = std::string(name) == "sgd_nesterov";
      const GoldenCase golden(name, dtype);
      const Tensor path = golden.get("parameter"), gradients = golden.get("grad");
      const Tensor p = row(path, 0).clone(Category::parameters);
      const Tensor m = Tensor::full(p.shape(), 0, dtype), v = Tensor::full(p.shape(), 0, dtype);
      const Tensor walked = Tensor::empty(path.shape(), dtype);
      row(walked, 0).copy_from(p);
      StepRecord& step = Executor::instance().step;
      step.learning_rate = is_sgd ? 0.1 : 0.01;
      for (int64_t i = 0; i < gradients.shape()[0]; ++i) {
        step.update = i + 1;
        const std::vector<Tensor> ps = {p}, gs = {row(gradients, i)}, ms = {m}, vs = {v};
        if (is_sgd) {
          sgd(ps, gs, ms, {.momentum = 0.9, .weight_decay = 5e-4, .nesterov = nesterov});
        } else {
          adamw(ps, gs, ms, vs, {.weight_decay = 0.01});
        }
        row(walked, i + 1).copy_from(p);
      }
      golden.check("parameter", walked);
    }
  }
}

TEST_CASE("golden: clipping to a global norm") {
  for (const DType dtype : both) {
    for (const bool below : {false, true}) {
      const GoldenCase golden(below ? "clip_grad_norm_below" : "clip_grad_norm", dtype);
      const std::vector<Tensor> gradients = {golden.get("before/first"), golden.get("before/second")};
      std::vector<Tensor> p;  // from zero, a step at rate -1 ends at the clipped gradients
      p.reserve(gradients.size());
      for (const Tensor& g : gradients) p.push_back(Tensor::full(g.shape(), 0, dtype));
      const Tensor norm = gradient_norm(gradients);
      Executor::instance().step.learning_rate = -1;
      sgd(p, gradients, {}, {.max_norm = below ? 100.0 : 1.5}, norm);
      golden.check("norm", norm);
      golden.check("after/first", p[0]);
      golden.check("after/second", p[1]);
    }
  }
}

}  // namespace parabola::golden_ops_test
