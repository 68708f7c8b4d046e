#include "apps/common/loss.h"

#include "engine/ops/binary.h"
#include "engine/ops/cross_entropy.h"

namespace parabola {
namespace {

Tensor times(double factor, const Tensor& loss) {
  return loss * Tensor::full({}, factor, loss.dtype(), Category::inputs, loss.device());
}

}  // namespace

Tensor training_loss(const Tensor& logits, const Batch& batch, double label_smoothing) {
  const CrossEntropyAttributes how{label_smoothing};
  Tensor loss = cross_entropy(logits, batch.labels, how);
  if (batch.partners)
    loss = times(batch.share, loss) + times(1 - batch.share, cross_entropy(logits, batch.partners, how));
  return loss;
}

}  // namespace parabola
