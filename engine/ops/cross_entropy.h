#pragma once
#include "engine/core/op.h"

namespace parabola {

// Mean over the batch of -log softmax(logits)[label]: logits [N, K], labels i32 [N] in [0, K), result a scalar. The
// softmax is fused in, with each row's maximum taken out first, so logits of any size are safe. Keeps the rows' maxima
// and log-sums; backward reads them and the logits: dlogits = (softmax - one hot) / N. ShapeError, DTypeError, and
// UsageError naming the first label that is no class; on CUDA, where nobody looks, such a label makes the loss NaN.
Tensor cross_entropy(const Tensor& logits, const Tensor& labels);

extern const OpDef cross_entropy_op;

}  // namespace parabola
