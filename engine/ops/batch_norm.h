#pragma once
#include "engine/core/op.h"

namespace parabola {

struct BatchNormOptions {
  double momentum = 0.1;  // the weight of the new value in a running statistic, as in PyTorch
  double eps = 1e-5;
  bool training = true;
  bool relu = false;
};

// y = gamma (x - mean) / sqrt(variance + eps) + beta for each channel, the last axis of x; the other arguments are [C].
// With a residual of x's shape y = that + residual; with `relu` y is the larger of that and zero: what a residual block
// does after a convolution, in one pass over the memory, with the bits of the ops one by one.
// Training: mean and biased variance are the batch's own, over all other axes; the running ones move towards them (the
// variance unbiased), once however often the op is replayed. Otherwise the running ones are used and stay. Backward
// reads x, the statistics and gamma; where there is a relu also beta, to make its argument again, or y, with a residual
// or running statistics. Recomputed by default; a replay whose statistics were kept only normalises. ShapeError,
// DTypeError; also for a batch of one value a channel, which has no unbiased variance. Ioffe, Szegedy, "Batch
// normalization", 2015.
Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                  const Tensor& running_variance, const BatchNormOptions& options, const Tensor& residual = {});

extern const OpDef batch_norm_op, batch_norm_inference_op;  // both take BatchNormOptions and all six tensors

}  // namespace parabola
