// Updates of parameters in place, many tensors at once and each in one pass over memory. They are no part of a tape:
// call them where none is open, or after its backward. The i-th tensors of all spans belong together and have one shape
// and dtype; a parameter without a gradient (an absent tensor) is left as it is, as in PyTorch. The learning rate and
// the number of the update come from the step record. ShapeError, DTypeError, UsageError.
#pragma once
#include <span>

#include "engine/core/op.h"
#include "engine/ops/gradient_norm.h"

namespace parabola {

// Where `norm` is given, gradients are multiplied by min(1, max_norm / (norm + 1e-6)) while they are read, as PyTorch's
// clip_grad_norm_ does; they stay as they are in memory.
struct SgdAttributes {
  double momentum = 0, weight_decay = 0, max_norm = 0;
  bool nesterov = false;
};

// d = g + weight_decay p;  m = momentum m + d;  p -= rate m, or with nesterov p -= rate (d + momentum m):
// torch.optim.SGD, where the momenta start as zeros. They may be left out where momentum is 0.
void sgd(std::span<const Tensor> parameters, std::span<const Tensor> gradients, std::span<const Tensor> momenta,
         const SgdAttributes& attributes, const Tensor& norm = {});

struct AdamwAttributes {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0, max_norm = 0;
};

// m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t) for
// update t = 1, 2, ...:  p = (1 - rate weight_decay) p - rate m' / (sqrt(v') + eps). torch.optim.AdamW; Loshchilov,
// Hutter, "Decoupled weight decay regularization", 2019. The moments start as zeros.
void adamw(std::span<const Tensor> parameters, std::span<const Tensor> gradients, std::span<const Tensor> first_moments,
           std::span<const Tensor> second_moments, const AdamwAttributes& attributes, const Tensor& norm = {});

// Moving averages of weights, for evaluation: average += max(1 - decay, 9 / (10 + t)) (value - average) after update t,
// which is TensorFlow's ExponentialMovingAverage with num_updates: a young average forgets its start faster. An average
// that equals its value stays as it is, bit for bit.
struct EmaAttributes {
  double decay = 0.999;
  constexpr double pull(int64_t update) const {
    const double least = 1 - decay, young = 9 / (10 + static_cast<double>(update));
    return young > least ? young : least;
  }
};
void ema(std::span<const Tensor> averages, std::span<const Tensor> values, const EmaAttributes& attributes);

extern const OpDef sgd_op, adamw_op, ema_op;

}  // namespace parabola
