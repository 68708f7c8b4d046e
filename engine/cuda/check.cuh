// Every call into CUDA goes through PARABOLA_CUDA, so that none fails unseen.
#pragma once
#include <cuda_runtime.h>

namespace parabola {

// Nothing where `status` is success. MemoryError where memory ran out, otherwise Error: "[cuda] cudaMalloc failed:
// ...". A kernel that went wrong is reported by whichever call notices it first.
void check_cuda(cudaError_t status, const char* call);
#define PARABOLA_CUDA(call) ::parabola::check_cuda((call), #call)

}  // namespace parabola
