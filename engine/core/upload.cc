#include "engine/core/upload.h"

#include "engine/core/error.h"

namespace parabola {

Upload::Upload(Device device)
    : device_(device), lane_(device.kind == DeviceKind::cpu ? nullptr : backend_of(device).copy_lane(device.index)) {}

void Upload::start(const Tensor& host) {
  PARABOLA_ASSERT(!tensor_ && host.device().kind == DeviceKind::cpu);
  if (!lane_) {
    tensor_ = host;
    return;
  }
  tensor_ = Tensor::empty(host.shape(), host.dtype(), Category::inputs, device_);
  lane_->start(tensor_.raw(), host.raw(), host.bytes());
}

Tensor Upload::finish() {
  PARABOLA_ASSERT(tensor_);
  if (lane_) lane_->finish();
  return std::exchange(tensor_, Tensor());
}

}  // namespace parabola
