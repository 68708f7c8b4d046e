// Optimizers. They update parameters in place through the engine's multi-tensor ops, outside of any tape:
//
//   AdamW optimizer(trainable(*model), {.lr = 1e-3});
//   tape.backward(loss);
//   optimizer.step();                  // uses the gradients and clears them
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/core/tensor.h"

namespace parabola {

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // One update of every parameter, then none has a gradient any more. UsageError where one has none to begin with.
  void step();

  double learning_rate() const { return lr_; }
  void set_learning_rate(double rate) { lr_ = rate; }
  // Global norm of the last step's gradients before clipping; absent where nothing is clipped.
  const Tensor& gradient_norm() const { return norm_; }

  // What a resumable state must hold besides the parameters: `slots` tensors for each parameter, in its order.
  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }
  const std::vector<Tensor>& state() const { return state_; }

 protected:
  // clip: gradients are scaled down to this global norm; 0: never. slots: state tensors of each parameter.
  Optimizer(std::vector<Tensor> parameters, double lr, double clip, int slots);
  virtual void update(std::span<const Tensor> parameters, std::span<const Tensor> gradients) = 0;
  std::vector<Tensor> parameters_, state_;
  Tensor norm_;
  double clip_;

 private:
  double lr_;
  int64_t updates_ = 0;
};

}  // namespace parabola
