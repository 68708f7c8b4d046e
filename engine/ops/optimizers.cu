// sgd, adamw and ema on CUDA, each in one pass over all parameters; the formulas are in optimizers.cc. The host does
// not know the step record by now: an update 0, which adamw refuses on the CPU, makes parameters NaN here.
#include "engine/ops/optimizers.h"

#include "engine/ops/tensor_table.cuh"

namespace parabola::optimizers_cuda {
namespace {

template <class T>
__device__ T clip_scale(const T* norm, double max_norm) {
  return norm ? static_cast<T>(std::min(1.0, max_norm / (*norm + 1e-6))) : T(1);
}

template <class T>
using SgdTable = TensorTable<T, 3>;  // parameter, gradient, momentum
template <class T>
using AdamwTable = TensorTable<T, 4>;  // parameter, gradient, first and second moment

template <class T>
__global__ void sgd_update(SgdTable<T> table, SgdAttributes attributes, const T* norm, const StepRecord* step) {
  const T scale = clip_scale(norm, attributes.max_norm), rate = static_cast<T>(step->learning_rate),
          momentum = static_cast<T>(attributes.momentum), decay = static_cast<T>(attributes.weight_decay);
  table.each_piece([=](const auto& row, int64_t begin, int64_t end, int64_t) {
    T *p = row.data[0], *g = row.data[1], *m = row.data[2];
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
      T d = std::fma(decay, p[i], scale * g[i]);
      if (m) m[i] = std::fma(momentum, m[i], d), d = attributes.nesterov ? std::fma(momentum, m[i], d) : m[i];
      p[i] = std::fma(-rate, d, p[i]);
    }
  });
}

// What an update multiplies with, apart from constants.
template <class T>
struct AdamwFactors {
  T scale, kept, rate, root;
};

template <class T>
__device__ AdamwFactors<T> adamw_factors(const AdamwAttributes& a, const T* norm, const StepRecord& step) {
  const double update = static_cast<double>(step.update);
  const double correction1 = 1 - std::pow(a.beta1, update), correction2 = 1 - std::pow(a.beta2, update);
  return {clip_scale(norm, a.max_norm), static_cast<T>(1 - step.learning_rate * a.weight_decay),
          static_cast<T>(step.learning_rate / correction1), static_cast<T>(1 / std::sqrt(correction2))};
}

template <class T>
__global__ void adamw_update(AdamwTable<T> table, AdamwAttributes attributes, const T* norm, const StepRecord* step) {
  AdamwFactors<T>* shared = shared_memory<AdamwFactors<T>>();
  if (threadIdx.x == 0) *shared = adamw_factors(attributes, norm, *step);
  __syncthreads();
  const AdamwFactors<T> factors = *shared;
  const T beta1 = static_cast<T>(attributes.beta1), beta2 = static_cast<T>(attributes.beta2),
          new1 = static_cast<T>(1 - attributes.beta1), new2 = static_cast<T>(1 - attributes.beta2),
          eps = static_cast<T>(attributes.eps);
  table.each_piece([=](const auto& row, int64_t begin, int64_t end, int64_t) {
    T *p = row.data[0], *g = row.data[1], *m = row.data[2], *v = row.data[3];
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
      const T gradient = factors.scale * g[i];
      const T first = std::fma(beta1, m[i], new1 * gradient),
              second = std::fma(beta2, v[i], new2 * gradient * gradient);
      m[i] = first, v[i] = second;
      p[i] = std::fma(-factors.rate, first / std::fma(std::sqrt(second), factors.root, eps), factors.kept * p[i]);
    }
  });
}

template <class T>
__global__ void ema_update(TensorTable<T, 2> table, EmaAttributes attributes, const StepRecord* step) {
  const T pull = static_cast<T>(attributes.pull(step->update));
  table.each_piece([=](const auto& row, int64_t begin, int64_t end, int64_t) {
    T *average = row.data[0], *value = row.data[1];
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x)
      average[i] = std::fma(pull, value[i] - average[i], average[i]);
  });
}

template <class T>
void sgd_forward(const ForwardArgs& args) {
  const auto& attributes = args.attributes.get<SgdAttributes>();
  const size_t count = (args.inputs.size() - 1) / (attributes.momentum == 0 ? 2 : 3);
  each_table<T, 3>(args.inputs.subspan(1), count, [&](const SgdTable<T>& table) {
    launch(sgd_update<T>, blocks_for(table.pieces, 1), block_size, 0, args.stream, table, attributes,
           args.inputs[0].data<T>(), args.step);
  });
}

template <class T>
void adamw_forward(const ForwardArgs& args) {
  const size_t count = (args.inputs.size() - 1) / 4;
  each_table<T, 4>(args.inputs.subspan(1), count, [&](const AdamwTable<T>& table) {
    launch(adamw_update<T>, blocks_for(table.pieces, 1), block_size, sizeof(AdamwFactors<T>), args.stream, table,
           args.attributes.get<AdamwAttributes>(), args.inputs[0].data<T>(), args.step);
  });
}

template <class T>
void ema_forward(const ForwardArgs& args) {
  const size_t count = (args.inputs.size() - 1) / 2;
  each_table<T, 2>(args.inputs.subspan(1), count, [&](const TensorTable<T, 2>& table) {
    launch(ema_update<T>, blocks_for(table.pieces, 1), block_size, 0, args.stream, table,
           args.attributes.get<EmaAttributes>(), args.step);
  });
}

const CudaKernels registered_sgd(sgd_op, {.kernels = {[](const ForwardArgs& a) {
                                            dispatch_float(a.inputs[1].dtype, "sgd",
                                                           [&]<class T>() { sgd_forward<T>(a); });
                                          }}});

const CudaKernels registered_adamw(adamw_op, {.kernels = {[](const ForwardArgs& a) {
                                                dispatch_float(a.inputs[1].dtype, "adamw",
                                                               [&]<class T>() { adamw_forward<T>(a); });
                                              }}});

const CudaKernels registered_ema(ema_op, {.kernels = {[](const ForwardArgs& a) {
                                            dispatch_float(a.inputs[1].dtype, "ema",
                                                           [&]<class T>() { ema_forward<T>(a); });
                                          }}});

}  // namespace
}  // namespace parabola::optimizers_cuda
