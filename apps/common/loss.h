// What a training step minimises.
#pragma once
#include "data/batch.h"

namespace parabola {

// Mean cross-entropy of logits [N, K] with the batch's targets: the label, or `share` of the label and the rest of the
// partner where images are mixed; of which label_smoothing is then spread evenly over all K classes, as torch's
// label_smoothing does. It is linear in the target, so each part is a cross-entropy with labels.
Tensor training_loss(const Tensor& logits, const Batch& batch, double label_smoothing);

}  // namespace parabola
