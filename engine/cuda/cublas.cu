// On a chip; the emulated grid has a twin, which calls Eigen (tests/emulated/cublas.cc).
#include "engine/cuda/cublas.cuh"

#include <cublas_v2.h>
#include <dlfcn.h>

#include <map>
#include <string>

#include "engine/core/error.h"
#include "engine/cuda/check.cuh"

namespace parabola {
namespace {

// cuBLAS's recommendation for Hopper, enough for all before. Not accounted: it belongs to the library, as its code
// does.
constexpr size_t workspace_bytes = 32_MiB;

template <class Function>
Function* find(void* library, const char* name) {
  void* function = dlsym(library, name);
  if (!function) fail<DeviceError>("device", "cuBLAS has no ", name, ", expected cuBLAS 12 or newer");
  return reinterpret_cast<Function*>(function);
}
#define PARABOLA_FIND(library, function) find<decltype(::function)>(library, #function)

void* open_library() {
  const std::string name = "libcublas.so." + std::to_string(CUBLAS_VER_MAJOR);
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  // Toolkits that were unpacked into a folder are often unknown to the dynamic linker.
  if (!library) library = dlopen((PARABOLA_CUDA_LIBRARIES "/" + name).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    fail<DeviceError>("device", "no cuBLAS: got no ", name, " from the system's library folders nor ",
                      PARABOLA_CUDA_LIBRARIES, ", expected it in one of them or in LD_LIBRARY_PATH");
  return library;
}

struct Cublas {
  void* library = open_library();
  decltype(::cublasCreate_v2)* create = PARABOLA_FIND(library, cublasCreate_v2);
  decltype(::cublasSetStream_v2)* set_stream = PARABOLA_FIND(library, cublasSetStream_v2);
  decltype(::cublasSetWorkspace_v2)* set_workspace = PARABOLA_FIND(library, cublasSetWorkspace_v2);
  decltype(::cublasSetMathMode)* set_math_mode = PARABOLA_FIND(library, cublasSetMathMode);
  decltype(::cublasGetStatusString)* status_string = PARABOLA_FIND(library, cublasGetStatusString);
  decltype(::cublasGemmStridedBatchedEx_64)* gemm = PARABOLA_FIND(library, cublasGemmStridedBatchedEx_64);

  void check(cublasStatus_t status, const char* call) const {
    if (status == CUBLAS_STATUS_ALLOC_FAILED) fail<MemoryError>("cublas", call, " found no memory left on the device");
    if (status != CUBLAS_STATUS_SUCCESS) fail<Error>("cublas", call, " failed: ", status_string(status));
  }
};

const Cublas& cublas() {
  static const Cublas library;
  return library;
}

// One of each device; they live until the program ends.
cublasHandle_t handle_of_current_device(DeviceStream stream) {
  static std::map<int, cublasHandle_t> handles;
  int device = 0;
  PARABOLA_CUDA(cudaGetDevice(&device));
  if (const auto known = handles.find(device); known != handles.end()) return known->second;
  cublasHandle_t handle = nullptr;
  void* workspace = nullptr;
  cublas().check(cublas().create(&handle), "cublasCreate");
  PARABOLA_CUDA(cudaMalloc(&workspace, workspace_bytes));
  // Sums in float32 for the 16-bit types as well, where cuBLAS splits them.
  cublas().check(
      cublas().set_math_mode(
          handle, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)),
      "cublasSetMathMode");
  // In this order: a new stream brings cuBLAS's own workspaces back.
  cublas().check(cublas().set_stream(handle, stream), "cublasSetStream");
  cublas().check(cublas().set_workspace(handle, workspace, workspace_bytes), "cublasSetWorkspace");
  return handles.emplace(device, handle).first->second;
}

cudaDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return CUDA_R_32F;
    case DType::f64: return CUDA_R_64F;
    case DType::bf16: return CUDA_R_16BF;
    case DType::f16: return CUDA_R_16F;
    default: fail<DTypeError>("cublas", "got dtype ", name_of(dtype), ", expected a floating one");
  }
}

}  // namespace

void require_cublas() { cublas(); }

void cublas_product(DeviceStream stream, const BlasProduct& p) {
  // cuBLAS is known to leave C as it was for some products over k = 0.
  if (p.k == 0) {
    const size_t element = size_of(p.dtype);
    for (int64_t i = 0; i < p.count && !p.accumulate; ++i)
      PARABOLA_CUDA(cudaMemset2DAsync(static_cast<std::byte*>(p.c) + static_cast<size_t>(i * p.stride_c) * element,
                                      static_cast<size_t>(p.ld_c) * element, 0, static_cast<size_t>(p.m) * element,
                                      static_cast<size_t>(p.n), stream));
    return;
  }
  const float ones[] = {0, 1};
  const double double_ones[] = {0, 1};
  const bool is_double = p.dtype == DType::f64;
  const void* alpha = is_double ? static_cast<const void*>(&double_ones[1]) : &ones[1];
  const void* beta = is_double ? static_cast<const void*>(&double_ones[p.accumulate]) : &ones[p.accumulate];
  const cublasComputeType_t compute = is_double                         ? CUBLAS_COMPUTE_64F
                                      : p.dtype == DType::f32 && p.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                        : CUBLAS_COMPUTE_32F;
  const cudaDataType_t type = type_of(p.dtype);
  const auto operation = [](bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; };
  cublas().check(cublas().gemm(handle_of_current_device(stream), operation(p.transpose_a), operation(p.transpose_b),
                               p.m, p.n, p.k, alpha, p.a, type, p.ld_a, p.stride_a, p.b, type, p.ld_b, p.stride_b, beta,
                               p.c, type, p.ld_c, p.stride_c, p.count, compute, CUBLAS_GEMM_DEFAULT),
                 "cublasGemmStridedBatchedEx");
}

}  // namespace parabola
