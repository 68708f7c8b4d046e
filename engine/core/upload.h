// Batches on their way to a device, while it still works on the one before:
//
//   Upload images(device);
//   images.start(first.images);
//   for (...) {
//     const Tensor batch = images.finish();
//     images.start(next.images);    // travels during the step
//     step(batch);
//   }
#pragma once
#include <memory>

#include "engine/core/device.h"
#include "engine/core/tensor.h"

namespace parabola {

class Upload {
 public:
  explicit Upload(Device device);

  // Sends a copy of `host`, a tensor on the CPU, which may be changed as soon as this returns. One at a time.
  void start(const Tensor& host);
  // The tensor that was sent last; on the CPU it is `host` itself. Does not wait: the device does, before the next
  // kernel.
  Tensor finish();

 private:
  Device device_;
  std::unique_ptr<CopyLane> lane_;
  Tensor tensor_;
};

}  // namespace parabola
