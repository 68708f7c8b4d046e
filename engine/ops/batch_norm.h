#pragma once
#include "engine/core/op.h"

namespace parabola {

struct BatchNormOptions {
  double momentum = 0.1;  // the weight of the new value in a running statistic, as in PyTorch
  double eps = 1e-5;
  bool training = true;
};

// y = gamma (x - mean) / sqrt(variance + eps) + beta for each channel, the last axis of x; the other arguments are [C].
// Training: mean and biased variance are the batch's own, over all other axes; the running ones move towards them (the
// variance unbiased), once however often the op is replayed. Otherwise the running ones are used and stay. Backward
// reads x, the statistics and gamma, not y. Recomputed by default; a replay whose statistics were kept only normalises.
// ShapeError, DTypeError; also for a batch of one value a channel, which has no unbiased variance.
// Ioffe, Szegedy, "Batch normalization", 2015.
Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                  const Tensor& running_variance, const BatchNormOptions& options);

extern const OpDef batch_norm_op, batch_norm_inference_op;  // both take BatchNormOptions and all five tensors

}  // namespace parabola
