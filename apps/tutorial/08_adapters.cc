// Chapter 8. Adapters, and training in stages
//
// At the end of this chapter you know the method that this project is for: a trained first-order network is frozen, its
// layers get a small quadratic term that starts at zero, and only that is trained. Take it off, and the old network is
// back, bit for bit.
#include <cstdio>

#include "engine/core/random.h"
#include "engine/ops/cross_entropy.h"
#include "engine/ops/relu.h"
#include "engine/tape/tape.h"
#include "layers/adapter.h"
#include "optim/adamw.h"

using namespace parabola;

class Net final : public Module {
 public:
  Net() {
    add("hidden", hidden_);
    add("head", head_);
  }

 private:
  Tensor forward(const Tensor& x) override { return head_(relu(hidden_(x))); }
  Linear hidden_{2, 16}, head_{16, 2};
};

// Points in a square, in two classes: above a straight line; or, when the world has changed, above a parabola.
struct Points {
  Tensor x, labels;
  Points(bool bent, uint64_t seed) : x(Tensor::empty({600, 2})), labels(Tensor::empty({600}, DType::i32)) {
    Random random({.seed = seed, .stream = Stream::data});
    for (int i = 0; i < 600; ++i) {
      const float u = random.uniform(-1, 1), v = random.uniform(-1, 1);
      x.data<float>()[2 * i] = u, x.data<float>()[2 * i + 1] = v;
      labels.data<int32_t>()[i] = v > (bent ? 2 * u * u - 0.6F : 0.5F * u);
    }
  }
};

double accuracy(Module& net, const Points& points) {
  const Tensor scores = net(points.x);
  int right = 0;
  for (int i = 0; i < 600; ++i) right += (scores.at(2 * i + 1) > scores.at(2 * i)) == (points.labels.at(i) == 1);
  return right / 600.0;
}

// Trains whatever is not frozen.
void train(Module& net, const Points& points, int steps) {
  AdamW optimizer(trainable(net), {.lr = 0.05});
  for (int step = 0; step < steps; ++step) {
    Tape tape;
    tape.backward(cross_entropy(net(points.x), points.labels));
    optimizer.step();
  }
}

int main() {
  const Points line(false, 1), line_unseen(false, 2), bent(true, 3), bent_unseen(true, 4);
  Net net;

  // Stage 1: an ordinary network learns the ordinary task. For large ones this is what others have done for us.
  net.initialize(8);
  train(net, line, 200);
  std::printf("stage 1: all %lld parameters trained on the line\n", static_cast<long long>(parameter_count(net, true)));
  std::printf("  right on the line %.2f, on the parabola %.2f\n", accuracy(net, line_unseen),
              accuracy(net, bent_unseen));
  const std::vector<float> before = net(bent.x).to_vector<float>();

  // Stage 2: freeze it, and put y = W x + b + s sum (A x)(B x) beside the hidden layer. A is zero, so nothing has
  // changed.
  set_trainable(net, "*", false);
  attach_adapters(net, {.match = "hidden", .rank = 1}, 8);
  std::printf("stage 2: %lld parameters of adapters, the others frozen\n",
              static_cast<long long>(parameter_count(net, true)));
  std::printf("  outputs with untrained adapters: %s\n",
              net(bent.x).to_vector<float>() == before ? "the same bits" : "DIFFERENT");
  train(net, bent, 400);
  std::printf("  right on the line %.2f, on the parabola %.2f\n", accuracy(net, line_unseen),
              accuracy(net, bent_unseen));

  // The base was never touched.
  detach_adapters(net);
  std::printf("without the adapters: %s\n", net(bent.x).to_vector<float>() == before ? "the same bits" : "DIFFERENT");
  std::printf("  right on the line %.2f, on the parabola %.2f\n", accuracy(net, line_unseen),
              accuracy(net, bent_unseen));
}

// Exercise: attach {.method = "lora"} instead, the linear contrast. How far does it come with as many parameters?

// Prints:
//   stage 1: all 82 parameters trained on the line
//     right on the line 1.00, on the parabola 0.77
//   stage 2: 64 parameters of adapters, the others frozen
//     outputs with untrained adapters: the same bits
//     right on the line 0.73, on the parabola 0.96
//   without the adapters: the same bits
//     right on the line 1.00, on the parabola 0.77
