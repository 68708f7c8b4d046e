// quadratic_conv2d_normed on CUDA: the three convolutions as one, then the norms and the product.
#include "engine/ops/quadratic_conv2d/quadratic_conv2d_normed.h"

#include <algorithm>

#include "engine/ops/conv2d/convolve.cuh"
#include "engine/ops/quadratic_conv2d/normed.cuh"
#include "engine/ops/quadratic_conv2d/normed.h"
#include "engine/ops/quadratic_stack.cuh"

namespace parabola::quadratic_conv2d_normed_cuda {
namespace {

using namespace normed;

KernelStack stack_of(const ConvGeometry& g) { return {3, 1, g.K / 3, 1, g.depth()}; }

// Scratch of both passes. z: the branches before their norms; backward turns it, or a copy's place, into dz. product:
// where backward goes through an output norm.
template <class T>
struct DeviceBuffers {
  T *weights, *z, *gradient, *sums, *statistics, *product;
  std::byte* tools;
  DeviceBuffers(Scratch& scratch, const ConvGeometry& g, bool own_z, bool backward, bool norms_output) {
    const ColumnParts matrix{g.pixels(), g.K}, products{g.pixels(), g.K / 3};
    weights = scratch.take<T>(g.K * g.depth());
    z = scratch.take<T>(own_z || backward ? g.pixels() * g.K : 0);
    gradient = scratch.take<T>(backward ? g.K * g.depth() : 0);
    sums = scratch.take<T>(backward ? 2 * g.K : 0);
    statistics = scratch.take<T>(2 * g.K);
    product = scratch.take<T>(norms_output && backward ? g.pixels() * g.K / 3 : 0);
    const size_t convolve = std::max(device_convolve_workspace<T>(g),
                                     backward ? device_convolve_backward_workspace<T>(g, true, true, false) : 0);
    size_t most = std::max(convolve, backward ? products.workspace<T>(6) : device_column_moments_workspace(matrix));
    if (norms_output) {
      const Layout norm = inner_norm_layout({g.N, g.Ho, g.Wo, g.K / 3}, dtype_of<T>, DeviceKind::cuda);
      most = std::max(most, backward ? norm.backward_workspace : norm.forward_workspace);
    }
    tools = scratch.take<std::byte>(static_cast<int64_t>(most));
  }
};

template <bool training, class T, class Args>
Norms<T> norms_of(const Args& args, const DeviceBuffers<T>& buffers, int64_t K) {
  const auto input = [&](int i) { return args.inputs[static_cast<size_t>(i)].template data<T>(); };
  T *mean = buffers.statistics, *rstd = mean + 3 * K;
  if constexpr (training) {
    mean = args.auxiliary[0].template data<T>(), rstd = args.auxiliary[1].template data<T>();
  } else {
    const Given<T> given{{input(mean_input(0)), input(mean_input(1)), input(mean_input(2))},
                         {input(variance_input(0)), input(variance_input(1)), input(variance_input(2))}};
    launch(normed_given_statistics<T>, blocks_for(3 * K), block_size, 0, args.stream, given,
           args.attributes.template get<NormedConvAttributes>().eps, mean, rstd, K);
  }
  return {mean,
          rstd,
          {input(gamma_input(0)), input(gamma_input(1)), input(gamma_input(2))},
          {input(beta_input(0)), input(beta_input(1)), input(beta_input(2))},
          K};
}

template <class T>
void batch_statistics(const ForwardArgs& args, const ConvGeometry& g, const T* z, std::byte* workspace) {
  const auto& options = args.attributes.get<NormedConvAttributes>();
  StatisticsOfBranches<T> statistics{{}, g.K / 3};
  for (int k = 0; k < 3; ++k) {
    const auto running = [&](int i) { return args.replay ? nullptr : args.inputs[static_cast<size_t>(i)].data<T>(); };
    statistics.branch[k] = {args.auxiliary[0].data<T>() + k * statistics.K,
                            args.auxiliary[1].data<T>() + k * statistics.K,
                            running(mean_input(k)),
                            running(variance_input(k)),
                            options.momentum,
                            options.eps,
                            static_cast<double>(g.pixels())};
  }
  device_column_moments(args.stream, z, {g.pixels(), g.K}, workspace, statistics);
}

template <class T, class Args>
void stack_weights(const Args& args, const ConvGeometry& g, T* stacked) {
  device_stack<T>(
      args.stream, stack_of(g),
      {args.inputs[1].template data<T>(), args.inputs[2].template data<T>(), args.inputs[3].template data<T>()},
      stacked);
}

template <bool training, class T>
void device_forward(const ForwardArgs& args) {
  const ConvGeometry g = stacked_geometry(name<training>, args.attributes, args.inputs[0].shape, args.inputs[1].shape);
  Scratch scratch(args.workspace);
  const bool norms_y = norms_output(args.inputs);
  const DeviceBuffers<T> buffers(scratch, g, args.variant == 0, false, norms_y);
  T* z = args.variant == 0 ? buffers.z : args.auxiliary[training ? 2 : 0].data<T>();
  stack_weights(args, g, buffers.weights);
  device_convolve<T>(args.stream, g, args.inputs[0].data<T>(), buffers.weights, nullptr, z,
                     reinterpret_cast<T*>(buffers.tools));
  if (training && !args.auxiliary_ready) batch_statistics(args, g, z, buffers.tools);
  launch_on_columns(normed_forward<T>, args.stream, g.pixels(), g.K / 3, norms_of<training>(args, buffers, g.K / 3), z,
                    args.outputs[0].data<T>(), g.pixels());
  if (norms_y)
    output_norm(norm_kernels(DeviceKind::cuda), args, args.outputs[0], buffers.tools)
        .forward(args.outputs[0], args.replay, args.auxiliary_ready);
}

template <bool training, class T>
void device_backward(const BackwardArgs& args) {
  const ConvGeometry g = stacked_geometry(name<training>, args.attributes, args.inputs[0].shape, args.inputs[1].shape);
  const int64_t K = g.K / 3, pixels = g.pixels();
  const auto gradient = [&](int i) { return args.input_gradients[static_cast<size_t>(i)].data<T>(); };
  const bool wants_weights = args.wants(1) || args.wants(2) || args.wants(3), own_z = args.variant == 0;
  const bool norms_y = norms_output(args.inputs);
  Scratch scratch(args.workspace);
  const DeviceBuffers<T> buffers(scratch, g, own_z, true, norms_y);
  const T *x = args.inputs[0].data<T>(), *dy = args.output_gradients[0].data<T>();
  const T* z = own_z ? buffers.z : args.auxiliary[training ? 2 : 0].data<T>();
  if (own_z || args.wants(0)) stack_weights(args, g, buffers.weights);
  if (own_z)
    device_convolve<T>(args.stream, g, x, buffers.weights, nullptr, buffers.z, reinterpret_cast<T*>(buffers.tools));
  const Norms<T> norms = norms_of<training>(args, buffers, K);
  if (norms_y) {
    launch_on_columns(normed_forward<T>, args.stream, pixels, K, norms, z, buffers.product, pixels);
    if (!output_backward(norm_kernels(DeviceKind::cuda), args, buffers.product, buffers.tools)) return;
    dy = buffers.product;
  }

  NormedGradients<T> sums{buffers.sums, {}, {}, K};
  for (int k = 0; k < 3; ++k) {
    sums.d[k] = gradient(beta_input(k)), sums.accumulate[k] = args.accumulates(beta_input(k));
    sums.d[3 + k] = gradient(gamma_input(k)), sums.accumulate[3 + k] = args.accumulates(gamma_input(k));
  }
  if (training || std::ranges::any_of(sums.d, [](const T* d) { return d != nullptr; }))
    device_column_sums<6, T>(args.stream, {pixels, K}, buffers.tools, NormedTerms<T>{norms, z, dy}, sums);
  if (!args.wants(0) && !wants_weights) return;

  launch_on_columns(normed_backward<T>, args.stream, pixels, K, norms, z, dy, training ? buffers.sums : nullptr,
                    buffers.z, pixels);
  device_convolve_backward<T>(
      args.stream, g, x, buffers.weights, buffers.z,
      {.dx = gradient(0), .dw = wants_weights ? buffers.gradient : nullptr, .accumulate_dx = args.accumulates(0)},
      buffers.tools);
  if (wants_weights)
    device_unstack<T>(args.stream, stack_of(g), buffers.gradient, {gradient(1), gradient(2), gradient(3)},
                      {args.accumulates(1), args.accumulates(2), args.accumulates(3)});
}

template <bool training, bool backward>
size_t workspace(const Signature& s) {
  Scratch scratch;
  const ConvGeometry g = stacked_geometry(name<training>, s.attributes, s.shape(0), s.shape(1));
  dispatch_float(s.dtype(), name<training>, [&]<class T>() {
    DeviceBuffers<T>(scratch, g, s.variant == 0, backward, training && norms_output(s.inputs));
  });
  return scratch.bytes();
}

template <bool training>
constexpr CudaKernels::Entry entry() {
  return {.kernels = {[](const ForwardArgs& a) {
                        dispatch_float(a.inputs[0].dtype, name<training>,
                                       [&]<class T>() { device_forward<training, T>(a); });
                      },
                      [](const BackwardArgs& a) {
                        dispatch_float(a.output_gradients[0].dtype, name<training>,
                                       [&]<class T>() { device_backward<training, T>(a); });
                      }},
          .forward_workspace = workspace<training, false>,
          .backward_workspace = workspace<training, true>};
}

const CudaKernels registered(quadratic_conv2d_normed_op, entry<true>());
const CudaKernels registered_inference(quadratic_conv2d_normed_inference_op, entry<false>());

}  // namespace
}  // namespace parabola::quadratic_conv2d_normed_cuda
