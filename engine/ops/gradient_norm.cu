// gradient_norm on CUDA: squares are added up in double, piece by piece, then the pieces in their order.
#include "engine/ops/gradient_norm.h"

#include "engine/cuda/warp.cuh"
#include "engine/ops/tensor_table.cuh"

namespace parabola::gradient_norm_cuda {
namespace {

template <class T>
__global__ void gradient_norm_pieces(TensorTable<const T, 1> table, double* partials) {
  table.each_piece([&](const auto& row, int64_t begin, int64_t end, int64_t piece) {
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
      const double value = row.data[0][i];
      sum += value * value;
    }
    sum = block_reduce(sum, Sum(), shared_memory<double>());
    if (threadIdx.x == 0) partials[piece] = sum;
  });
}

template <class T>
__global__ void gradient_norm_total(const double* partials, int64_t count, T* norm) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += partials[i];
  sum = block_reduce(sum, Sum(), shared_memory<double>());
  if (threadIdx.x == 0) *norm = static_cast<T>(std::sqrt(sum));
}

template <class T>
void forward(const ForwardArgs& args) {
  constexpr size_t shared_bytes = block_size / warp_size * sizeof(double);
  double *const partials = reinterpret_cast<double*>(args.workspace), *next = partials;
  each_table<const T, 1>(args.inputs, args.inputs.size(), [&](const TensorTable<const T, 1>& table) {
    launch(gradient_norm_pieces<T>, blocks_for(table.pieces, 1), block_size, shared_bytes, args.stream, table, next);
    next += table.pieces;
  });
  launch(gradient_norm_total<T>, 1, block_size, shared_bytes, args.stream, partials, next - partials,
         args.outputs[0].data<T>());
}

size_t workspace(const Signature& s) {
  int64_t pieces = 0;
  for (const TensorSpec& gradient : s.inputs) pieces += TensorTable<const float, 1>::pieces_of(gradient.shape);
  return static_cast<size_t>(pieces) * sizeof(double);
}

const CudaKernels registered(gradient_norm_op, {.kernels = {[](const ForwardArgs& a) {
                                                  dispatch_float(a.inputs[0].dtype, "gradient_norm",
                                                                 [&]<class T>() { forward<T>(a); });
                                                }},
                                                .forward_workspace = workspace});

}  // namespace
}  // namespace parabola::gradient_norm_cuda
