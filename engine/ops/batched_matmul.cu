// batched_matmul on CUDA: cuBLAS's batched products.
#include "engine/blas/gemm.cuh"
#include "engine/ops/batched_product.h"

namespace parabola::batched_matmul_cuda {
namespace {

template <class T>
auto product_on(DeviceStream stream) {
  return [stream](int64_t count, int64_t m, int64_t n, int64_t k, const Stack<T>& a, const Stack<T>& b, T* c,
                  bool accumulate) {
    device_gemm_batched(stream, count, m, n, k, a.matrix, a.step, b.matrix, b.step, c, n, m * n, accumulate);
  };
}

void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "batched_matmul",
                     [&]<class T>() { multiply_stacks<T>(args, product_on<T>(args.stream)); });
}

void backward(const BackwardArgs& args) {
  dispatch_any_float(args.output_gradients[0].dtype, "batched_matmul",
                     [&]<class T>() { multiply_stacks_backward<T>(args, product_on<T>(args.stream)); });
}

const CudaKernels registered(batched_matmul_op, {.kernels = {forward, backward}, .half_types = true});

}  // namespace
}  // namespace parabola::batched_matmul_cuda
