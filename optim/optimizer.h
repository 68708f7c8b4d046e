// Optimizers. They update parameters in place through the engine's multi-tensor ops, outside of any tape:
//
//   AdamW optimizer(trainable(*model), {.lr = 1e-3});
//   tape.backward(loss);
//   optimizer.step();                  // uses the gradients and clears them
#pragma once
#include <array>
#include <span>
#include <vector>

#include "optim/groups.h"

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
  // clip: gradients are scaled down to this global norm; 0: never. slots: state tensors of each parameter, at most 2.
  Optimizer(const std::vector<ParameterGroup>& groups, double lr, double weight_decay, double clip, int slots);

  // One group's part of a step, at the step record's learning rate. The i-th tensors of all spans belong together.
  struct Update {
    std::span<const Tensor> parameters, gradients;
    std::array<std::span<const Tensor>, 2> states;  // empty beyond the optimizer's slots
    double weight_decay;
  };
  virtual void update(const Update& group) = 0;
  Tensor norm_;
  double clip_;

 private:
  struct Group {
    size_t begin, count;  // of parameters_
    double lr_factor, weight_decay;
  };
  std::vector<Tensor> parameters_, state_;
  std::vector<Group> groups_;
  double lr_;
  int64_t updates_ = 0;
};

}  // namespace parabola
