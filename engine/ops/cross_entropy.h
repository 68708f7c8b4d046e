#pragma once
#include "engine/core/op.h"

namespace parabola {

struct CrossEntropyAttributes {
  double label_smoothing = 0;  // s in [0, 1]: the target t becomes (1 - s) t + s / K
};

// Mean over the batch of -sum_k t log softmax(logits), logits [N, K], result a scalar. Targets are labels, i32 [N] in
// [0, K), where t is 1 at the label and 0 elsewhere; or soft ones, probabilities t [N, K] of the logits' dtype, which
// may have a gradient. The softmax is fused in, with each row's maximum taken out first, so logits of any size are
// safe; -infinity is where t is 0. Keeps the rows' maxima and log-sums; backward reads them, the logits and the
// targets: dlogits = (softmax sum_k t - t) / N, dt = -(1 - s) log softmax / N. As PyTorch. Cost: 19 flops a logit,
// backward 18. ShapeError, DTypeError, and UsageError naming the first label that is no class; on CUDA, where nobody
// looks, such a label makes the loss NaN.
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, const CrossEntropyAttributes& attributes = {});

extern const OpDef cross_entropy_op;

}  // namespace parabola
