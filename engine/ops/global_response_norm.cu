// global_response_norm on CUDA. The formulas and the names of what is computed are in global_response_norm.cc.
#include "engine/ops/global_response_norm.h"

#include "engine/ops/affine.cuh"
#include "engine/ops/reduction.cuh"
#include "engine/ops/rows.cuh"
#include "engine/ops/scratch.h"

namespace parabola::global_response_norm_cuda {
namespace {

template <class T>
struct ProductTerm {
  const T *a, *b;
  __device__ T operator()(int64_t i) const { return a[i] * b[i]; }
};
template <class T>
struct Result {
  T* to;
  bool root;
  __device__ void set(int64_t i, double sum) const { to[i] = static_cast<T>(root ? std::sqrt(sum) : sum); }
};

// to [N, C]: the sums of a b over each image, or their square roots.
template <class T>
void sum_images(DeviceStream stream, const Shape& x, const T* a, const T* b, T* to, bool root, std::byte* workspace) {
  DeviceReduction({x[0], x[1] * x[2], x[3]}, {x[0], 1, x[3]})
      .run<T>(stream, workspace, ProductTerm<T>{a, b}, Result<T>{to, root});
}

// A warp to an image: r, and where slopes is not null, dg / g.
template <class T>
__global__ void response_of_images(const T* norms, const T* gamma, const T* products, T* responses, T* slopes,
                                   double eps, int64_t images, int64_t channels) {
  for (int64_t n = first_row(); n < images; n += row_step()) {
    const T *g = norms + n * channels, *p = products + n * channels, count = static_cast<T>(channels);
    const T mean = row_sum<T>(channels, [=](int64_t c) { return g[c]; }) / count;
    const T scale = static_cast<T>(1 / (mean + eps));
    for (int64_t c = lane_index(); c < channels; c += warp_size) responses[n * channels + c] = g[c] * scale;
    if (!slopes) continue;
    const T dot = row_sum<T>(channels, [=](int64_t c) { return gamma[c] * p[c] * g[c]; }) / count;
    for (int64_t c = lane_index(); c < channels; c += warp_size)
      slopes[n * channels + c] = g[c] > 0 ? scale * (gamma[c] * p[c] - scale * dot) / g[c] : T(0);
  }
}

// to = from (1 + gamma r) + what is added: beta, or x dg / g.
template <class T>
__global__ void global_response_norm_scale(const T* from, const T* gamma, const T* responses, const T* beta, const T* x,
                                           const T* slopes, T* to, bool accumulate, Divisor pixels, int64_t rows,
                                           int64_t channels) {
  const int64_t c = thread_index();
  if (c >= channels) return;
  const T weight = gamma[c];
  for (int64_t row = thread_row(); row < rows; row += row_count()) {
    const int64_t i = row * channels + c, n = pixels.divide(row) * channels + c;
    const T value = std::fma(from[i], std::fma(weight, responses[n], T(1)), beta ? beta[c] : x[i] * slopes[n]);
    to[i] = accumulate ? to[i] + value : value;
  }
}

template <class T>
__global__ void response_gamma_gradient(const T* responses, const T* products, T* to, bool accumulate, int64_t images,
                                        int64_t channels) {
  for (int64_t c = thread_index(); c < channels; c += thread_count()) {
    double sum = 0;
    for (int64_t n = 0; n < images; ++n) sum += responses[n * channels + c] * products[n * channels + c];
    to[c] = accumulate ? to[c] + static_cast<T>(sum) : static_cast<T>(sum);
  }
}

template <class T>
struct Workspace {
  std::byte* sums;
  T *responses, *products, *slopes;
  size_t bytes;
  explicit Workspace(const Shape& x, std::byte* memory = nullptr) {
    Scratch scratch(memory);
    const DeviceReduction reduction({x[0], x[1] * x[2], x[3]}, {x[0], 1, x[3]});
    const size_t beta = device_bias_gradient_workspace<T>(x[0] * x[1] * x[2], x[3]);
    sums = scratch.take<std::byte>(static_cast<int64_t>(std::max(beta, reduction.workspace(dtype_of<T>))));
    responses = scratch.take<T>(x[0] * x[3]);
    products = scratch.take<T>(x[0] * x[3]);
    slopes = scratch.take<T>(x[0] * x[3]);
    bytes = scratch.bytes();
  }
};

template <class T>
void forward(const ForwardArgs& args) {
  const Shape& shape = args.inputs[0].shape;
  const Workspace<T> workspace(shape, args.workspace);
  const T *x = args.inputs[0].data<T>(), *gamma = args.inputs[1].data<T>();
  const int64_t rows = shape.product(0, 3);
  T* norms = args.auxiliary[0].data<T>();
  if (!args.auxiliary_ready) sum_images(args.stream, shape, x, x, norms, true, workspace.sums);
  launch(response_of_images<T>, blocks_for_rows(shape[0]), block_size, 0, args.stream, norms, gamma, nullptr,
         workspace.responses, nullptr, args.attributes.get<GlobalResponseNormAttributes>().eps, shape[0], shape[3]);
  launch_on_columns(global_response_norm_scale<T>, args.stream, rows, shape[3], x, gamma, workspace.responses,
                    args.inputs[2].data<T>(), nullptr, nullptr, args.outputs[0].data<T>(), false,
                    Divisor(std::max<int64_t>(1, shape[1] * shape[2])), rows, shape[3]);
}

template <class T>
void backward(const BackwardArgs& args) {
  const Shape& shape = args.output_gradients[0].shape;
  const Workspace<T> workspace(shape, args.workspace);
  const T *x = args.inputs[0].data<T>(), *gamma = args.inputs[1].data<T>(), *dy = args.output_gradients[0].data<T>();
  const int64_t rows = shape.product(0, 3);
  if (args.wants(2))
    device_bias_gradient(args.stream, dy, rows, shape[3], args.input_gradients[2].data<T>(), args.accumulates(2),
                         workspace.sums);
  if (!args.wants(0) && !args.wants(1)) return;
  sum_images(args.stream, shape, dy, x, workspace.products, false, workspace.sums);
  launch(response_of_images<T>, blocks_for_rows(shape[0]), block_size, 0, args.stream, args.auxiliary[0].data<T>(),
         gamma, workspace.products, workspace.responses, args.wants(0) ? workspace.slopes : nullptr,
         args.attributes.get<GlobalResponseNormAttributes>().eps, shape[0], shape[3]);
  if (args.wants(1))
    launch(response_gamma_gradient<T>, blocks_for(shape[3]), block_size, 0, args.stream, workspace.responses,
           workspace.products, args.input_gradients[1].data<T>(), args.accumulates(1), shape[0], shape[3]);
  if (args.wants(0))
    launch_on_columns(global_response_norm_scale<T>, args.stream, rows, shape[3], dy, gamma, workspace.responses,
                      nullptr, x, workspace.slopes, args.input_gradients[0].data<T>(), args.accumulates(0),
                      Divisor(std::max<int64_t>(1, shape[1] * shape[2])), rows, shape[3]);
}

size_t workspace_bytes(const Signature& s) {
  return s.dtype() == DType::f64 ? Workspace<double>(s.shape(0)).bytes : Workspace<float>(s.shape(0)).bytes;
}

const CudaKernels registered(global_response_norm_op,
                             {.kernels = {[](const ForwardArgs& a) {
                                            dispatch_float(a.inputs[0].dtype, "global_response_norm",
                                                           [&]<class T>() { forward<T>(a); });
                                          },
                                          [](const BackwardArgs& a) {
                                            dispatch_float(a.output_gradients[0].dtype, "global_response_norm",
                                                           [&]<class T>() { backward<T>(a); });
                                          }},
                              .forward_workspace = workspace_bytes,
                              .backward_workspace = workspace_bytes});

}  // namespace
}  // namespace parabola::global_response_norm_cuda
