// Devices other than the CPU. What knows how to drive them (engine/cuda) comes in objects of its own, which register
// themselves here when the program starts; the rest of the engine sees this interface only.
#pragma once
#include <memory>

#include "engine/core/memory.h"

struct CUstream_st;  // CUDA's own name, so that this header needs none of CUDA's

namespace parabola {

// A queue of a device's work: kernels and copies run one after the other, in the order in which they were given to it.
using DeviceStream = CUstream_st*;

// A second way into a device's memory, beside its stream: a batch travels while the device works on the one before.
class CopyLane {
 public:
  virtual ~CopyLane() = default;
  // Starts to copy `bytes` from the host to `to`, once the device has done what its stream holds by now (which may
  // still use what lay at `to` before). `from` may be changed as soon as this returns.
  virtual void start(std::byte* to, const std::byte* from, size_t bytes) = 0;
  // What the stream is given from now on waits until the last start() has arrived.
  virtual void finish() = 0;
};

// One kind of device; `index` is the device's number. Calls that fail throw an Error that names them.
class DeviceBackend {
 public:
  virtual ~DeviceBackend() = default;
  virtual void require(int index) = 0;          // DeviceError unless the device is there and can be used; says why
  virtual std::string describe(int index) = 0;  // "NVIDIA H200, 139.8 GiB"
  virtual std::unique_ptr<ByteSource> memory(int index) = 0;
  virtual DeviceStream stream(int index) = 0;  // the device's one stream; makes the device the current one
  enum class Copy : uint8_t { to_device, to_host, within };
  virtual void copy(int index, void* to, const void* from, size_t bytes,
                    Copy direction) = 0;  // in the stream's order;
                                          // with the host on one side it returns when all has been copied
  virtual void clear(int index, void* to, size_t bytes) = 0;  // sets to zero, in the stream's order
  virtual void synchronize(int index) = 0;                    // returns when the device has done all it was given
  virtual std::unique_ptr<CopyLane> copy_lane(int index) = 0;
};

// The backend of a device that is not the CPU. DeviceError where this program was built without it.
DeviceBackend& backend_of(Device device);

// Called by a backend when the program starts; it stays alive until the end.
void register_backend(DeviceKind kind, DeviceBackend& backend);

// Returns where `device` can be used; otherwise a DeviceError says what is missing, the driver for instance. For apps,
// before anything else is done.
void require_device(Device device);

// Waits until the device has done all it was given; on the CPU all is done already. For clocks and reports.
void synchronize(Device device);

}  // namespace parabola
