#pragma once
#include <span>
#include <vector>

#include "engine/core/tensor.h"

namespace parabola {

// Exponential moving averages of tensors: of a model's weights, which mostly do better than the last step's (Polyak and
// Juditsky, "Acceleration of stochastic approximation by averaging", 1992), and of its running statistics, so that
// these belong to the averaged weights.
//   Ema ema(trainable(*model), 0.999);
//   optimizer.step(), ema.update();    // each step
//   ema.swap();                        // the model holds the averages; a second swap() brings its own weights back
class Ema {
 public:
  Ema(std::vector<Tensor> values, double decay);

  void restart();  // the averages are the values, as they are when it is made
  void update();   // after an optimizer's step, whose number counts: see engine/ops/optimizers.h
  void swap();     // exchanges averages and values, bit for bit

  const std::vector<Tensor>& averages() const { return averages_; }  // in the order of the values; for a state

 private:
  std::vector<Tensor> values_, averages_;
  double decay_;
};

}  // namespace parabola
