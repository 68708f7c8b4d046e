#include "data/batch.h"

namespace parabola {

Batch to_batch(const HostBatch& host) {
  return {.images = Tensor::from(host.images, host.shape),
          .labels = Tensor::from(host.labels, {host.shape[0]}),
          .samples = host.samples,
          .number = host.number,
          .partners = host.partners.empty() ? Tensor() : Tensor::from(host.partners, {host.shape[0]}),
          .share = host.share};
}

}  // namespace parabola
