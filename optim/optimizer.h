// Optimizers. They update parameters in place through the engine's multi-tensor ops, outside of any tape:
//
//   AdamW optimizer(trainable(*model), {.learning_rate = 1e-3});
//   tape.backward(loss);
//   optimizer.step();                  // uses the gradients and clears them
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/core/tensor.h"

namespace parabola {

struct OptimizerOptions {
  double learning_rate = 1e-3;
  double weight_decay = 0;
  double clip = 0;  // gradients are scaled down to this global norm; 0: never
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // One update of every parameter that has a gradient, then no parameter has one any more.
  void step();

  double learning_rate() const { return options_.learning_rate; }
  void set_learning_rate(double rate) { options_.learning_rate = rate; }
  // Global norm of the last step's gradients before clipping; absent where nothing is clipped.
  const Tensor& gradient_norm() const { return norm_; }

  // What a resumable state must hold besides the parameters: `slots` tensors for each parameter, in its order.
  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }
  const std::vector<Tensor>& state() const { return state_; }

 protected:
  Optimizer(std::vector<Tensor> parameters, const OptimizerOptions& options, int slots);
  virtual void update(std::span<const Tensor> parameters, std::span<const Tensor> gradients) = 0;
  OptimizerOptions options_;
  std::vector<Tensor> parameters_, state_;
  Tensor norm_;

 private:
  int64_t updates_ = 0;
};

}  // namespace parabola
