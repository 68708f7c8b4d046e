// CUDA devices as the engine sees them (engine/core/device.h), and the launch of a kernel on one.
#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include "engine/core/error.h"
#include "engine/cuda/check.cuh"
#include "engine/cuda/cublas.cuh"
#include "engine/cuda/launch.cuh"

namespace parabola {

void check_cuda(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // CUDA would report it to the next call as well
  const std::string_view text = call;
  const std::string_view name = text.substr(0, text.find('('));
  if (status == cudaErrorMemoryAllocation) fail<MemoryError>("cuda", name, " found no memory left on the device");
  fail<Error>("cuda", name, " failed: ", cudaGetErrorString(status));
}

namespace {

std::string version(int number) { return concat(number / 1000, ".", number % 1000 / 10); }
std::string capability(int number) { return concat(number / 10, ".", number % 10); }

int attribute(cudaDeviceAttr which, int index) {
  int value = 0;
  PARABOLA_CUDA(cudaDeviceGetAttribute(&value, which, index));
  return value;
}

cudaDeviceProp properties_of(int index) {
  cudaDeviceProp properties;
  PARABOLA_CUDA(cudaGetDeviceProperties(&properties, index));
  return properties;
}

// The oldest chip that there is code for: 80 for compute capability 8.0.
int oldest_capability() {
  const int compiled[] = {__CUDA_ARCH_LIST__};  // 800, 900, ...
  return *std::min_element(std::begin(compiled), std::end(compiled)) / 10;
}

class CudaMemory final : public ByteSource {
 public:
  explicit CudaMemory(int index) : index_(index) {
    alignment = 256;  // what cudaMalloc promises; vector loads and cuBLAS choose their ways by it
    smallest_region = 64_MiB;
    // For compute-sanitizer, which knows the ends of cudaMalloc's blocks only.
    if (std::getenv("PARABOLA_SEPARATE_BLOCKS")) smallest_region = 0;
  }
  std::byte* take(size_t bytes) override {
    void* memory = nullptr;
    PARABOLA_CUDA(cudaSetDevice(index_));
    const cudaError_t status = cudaMalloc(&memory, bytes);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check_cuda(status, "cudaMalloc");
    return static_cast<std::byte*>(memory);
  }
  // Without a throw: destructors come here, after a kernel's fault and at the program's end as well.
  void give_back(std::byte* region, size_t) override {
    cudaFree(region);
    cudaGetLastError();
  }
  std::string name() const override { return "cuda:" + std::to_string(index_); }

 private:
  int index_;
};

// Through pinned memory, which the device copies from by itself, on a stream beside the one for kernels.
class CudaLane final : public CopyLane {
 public:
  CudaLane(int index, cudaStream_t kernels) : index_(index), kernels_(kernels) {
    PARABOLA_CUDA(cudaSetDevice(index));
    PARABOLA_CUDA(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking));
    PARABOLA_CUDA(cudaEventCreateWithFlags(&before_, cudaEventDisableTiming));
    PARABOLA_CUDA(cudaEventCreateWithFlags(&arrived_, cudaEventDisableTiming));
  }
  ~CudaLane() override {  // a destructor must not throw, and nothing could be done about a failure any more
    cudaSetDevice(index_);
    cudaStreamSynchronize(copies_);
    cudaEventDestroy(before_);
    cudaEventDestroy(arrived_);
    cudaStreamDestroy(copies_);
    cudaFreeHost(staging_);
  }
  void start(std::byte* to, const std::byte* from, size_t bytes) override {
    PARABOLA_CUDA(cudaSetDevice(index_));
    PARABOLA_CUDA(cudaEventSynchronize(arrived_));  // the staging memory is free when the last copy has left it
    if (bytes > staging_bytes_) {
      PARABOLA_CUDA(cudaFreeHost(std::exchange(staging_, nullptr)));
      staging_bytes_ = 0;  // also where the next line throws
      PARABOLA_CUDA(cudaMallocHost(&staging_, bytes));
      staging_bytes_ = bytes;
    }
    std::memcpy(staging_, from, bytes);
    PARABOLA_CUDA(cudaEventRecord(before_, kernels_));
    PARABOLA_CUDA(cudaStreamWaitEvent(copies_, before_));
    PARABOLA_CUDA(cudaMemcpyAsync(to, staging_, bytes, cudaMemcpyHostToDevice, copies_));
    PARABOLA_CUDA(cudaEventRecord(arrived_, copies_));
  }
  void finish() override { PARABOLA_CUDA(cudaStreamWaitEvent(kernels_, arrived_)); }

 private:
  int index_;
  cudaStream_t kernels_, copies_ = nullptr;
  cudaEvent_t before_ = nullptr, arrived_ = nullptr;
  void* staging_ = nullptr;
  size_t staging_bytes_ = 0;
};

class CudaBackend final : public DeviceBackend {
 public:
  CudaBackend() { register_backend(DeviceKind::cuda, *this); }

  void require(int index) override {
    const std::string name = "cuda:" + std::to_string(index);
    int driver = 0, count = 0;
    cudaDriverGetVersion(&driver);
    if (driver == 0) fail<DeviceError>("device", "no ", name, ": this machine has no NVIDIA driver (libcuda.so.1)");
    const cudaError_t status = cudaGetDeviceCount(&count);
    cudaGetLastError();
    if (status == cudaErrorInsufficientDriver)
      fail<DeviceError>("device", "no ", name, ": got a driver for CUDA ", version(driver), ", expected one for CUDA ",
                        version(CUDART_VERSION), " or newer");
    if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
      fail<DeviceError>("device", "no ", name, ": this machine has no NVIDIA GPU that may be used");
    if (status != cudaSuccess) fail<DeviceError>("device", "no ", name, ": ", cudaGetErrorString(status));
    if (index >= count)
      fail<DeviceError>("device", "no ", name, ": got ", count, " devices, expected a number from 0 to ", count - 1);
    const int has =
        10 * attribute(cudaDevAttrComputeCapabilityMajor, index) + attribute(cudaDevAttrComputeCapabilityMinor, index);
    if (has < oldest_capability())
      fail<DeviceError>("device", name, " is too old: got compute capability ", capability(has), ", expected ",
                        capability(oldest_capability()), " or newer; make CUDA_ARCHS=", has, " builds for it");
    require_cublas();
  }

  std::string describe(int index) override {
    const cudaDeviceProp properties = properties_of(index);
    return concat(properties.name, ", ", properties.totalGlobalMem / 1_MiB, " MiB, compute capability ",
                  properties.major, ".", properties.minor);
  }

  std::unique_ptr<ByteSource> memory(int index) override {
    require(index);
    return std::make_unique<CudaMemory>(index);
  }

  DeviceStream stream(int index) override {
    PARABOLA_CUDA(cudaSetDevice(index));
    cudaStream_t& stream = streams_[index];
    if (!stream) PARABOLA_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
  }

  // From pageable memory cudaMemcpyAsync returns when it has read all of it.
  void copy(int index, void* to, const void* from, size_t bytes, Copy direction) override {
    if (bytes == 0) return;
    const cudaMemcpyKind kind = direction == Copy::to_device ? cudaMemcpyHostToDevice
                                : direction == Copy::to_host ? cudaMemcpyDeviceToHost
                                                             : cudaMemcpyDeviceToDevice;
    PARABOLA_CUDA(cudaMemcpyAsync(to, from, bytes, kind, stream(index)));
    if (direction == Copy::to_host) synchronize(index);
  }
  void clear(int index, void* to, size_t bytes) override {
    if (bytes > 0) PARABOLA_CUDA(cudaMemsetAsync(to, 0, bytes, stream(index)));
  }
  void synchronize(int index) override { PARABOLA_CUDA(cudaStreamSynchronize(stream(index))); }
  std::unique_ptr<CopyLane> copy_lane(int index) override { return std::make_unique<CudaLane>(index, stream(index)); }

 private:
  std::map<int, cudaStream_t> streams_;
} backend;

std::string name_of_kernel(const void* kernel) {
  const char* symbol = nullptr;
#if CUDART_VERSION >= 12030
  if (cudaFuncGetName(&symbol, kernel) != cudaSuccess) symbol = nullptr;
#endif
  if (!symbol) return "a kernel";
  int status = 0;
  char* readable = abi::__cxa_demangle(symbol, nullptr, nullptr, &status);
  const std::string name = status == 0 ? readable : symbol;
  std::free(readable);
  return name;
}

}  // namespace

void launch_on_device(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, DeviceStream stream,
                      void** arguments) {
  constexpr size_t without_asking = 48_KiB;
  if (shared_bytes > without_asking)
    PARABOLA_CUDA(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  const cudaError_t status = cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream);
  if (status == cudaSuccess) return;
  cudaGetLastError();
  fail<Error>("cuda", "launch of ", name_of_kernel(kernel), " on ", grid.x, " x ", grid.y, " x ", grid.z, " blocks of ",
              block.x, " x ", block.y, " x ", block.z, " threads failed: ", cudaGetErrorString(status));
}

}  // namespace parabola
