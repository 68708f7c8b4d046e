#include "engine/core/device.h"

#include "engine/core/error.h"

namespace parabola {
namespace {
DeviceBackend* cuda_backend = nullptr;
}

void register_backend(DeviceKind kind, DeviceBackend& backend) {
  PARABOLA_ASSERT(kind == DeviceKind::cuda);
  cuda_backend = &backend;
}

DeviceBackend& backend_of(Device device) {
  PARABOLA_ASSERT(device.kind == DeviceKind::cuda);
  if (!cuda_backend) fail<DeviceError>("device", "no ", device.str(), ": this build has no CUDA");
  return *cuda_backend;
}

void require_device(Device device) {
  if (device.kind != DeviceKind::cpu) backend_of(device).require(device.index);
}

void synchronize(Device device) {
  if (device.kind != DeviceKind::cpu) backend_of(device).synchronize(device.index);
}

}  // namespace parabola
