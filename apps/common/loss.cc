#include "apps/common/loss.h"

#include "engine/ops/binary.h"
#include "engine/ops/cross_entropy.h"
#include "engine/ops/reduce.h"
#include "engine/ops/slice.h"

namespace parabola {
namespace {

Tensor times(double factor, const Tensor& loss) {
  return loss * Tensor::full({}, factor, loss.dtype(), Category::inputs, loss.device());
}

// The mean of the cross-entropies with each class: that with class 0, and by how much its logit is above the mean.
Tensor even_cross_entropy(const Tensor& logits) {
  const std::vector<int32_t> zeros(static_cast<size_t>(logits.shape()[0]), 0);
  const Tensor labels = Tensor::from(zeros, Shape{logits.shape()[0]}).to(logits.device(), Category::inputs);
  return cross_entropy(logits, labels) + (mean(slice(logits, 1, 0, 1)) - mean(logits));
}

}  // namespace

Tensor training_loss(const Tensor& logits, const Batch& batch, double label_smoothing) {
  Tensor loss = cross_entropy(logits, batch.labels);
  if (batch.partners) loss = times(batch.share, loss) + times(1 - batch.share, cross_entropy(logits, batch.partners));
  if (label_smoothing > 0) loss = times(1 - label_smoothing, loss) + times(label_smoothing, even_cross_entropy(logits));
  return loss;
}

}  // namespace parabola
