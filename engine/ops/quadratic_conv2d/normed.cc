#include "engine/ops/quadratic_conv2d/normed.h"

#include "engine/ops/quadratic_conv2d/stacked.h"

namespace parabola::normed {
namespace {

template <class T>
void stack_weights(const ConvGeometry& g, std::span<const TensorView> inputs, T* stacked) {
  const T* const kernels[] = {inputs[1].data<T>(), inputs[2].data<T>(), inputs[3].data<T>()};
  stack_kernels<T>(kernels, 1, g.K / 3, 1, g.depth(), stacked);
}

// Means and inverse deviations [3 K] of the running statistics.
template <class T>
void given_statistics(std::span<const TensorView> inputs, int64_t K, double eps, T* mean, T* invstd) {
  for (int k = 0; k < 3; ++k) {
    std::copy_n(inputs[static_cast<size_t>(mean_input(k))].data<T>(), K, mean + k * K);
    inverse_deviation(inputs[static_cast<size_t>(variance_input(k))].data<T>(), K, eps, invstd + k * K);
  }
}

// gamma / deviation [3 K], and beta [3 K].
template <class T>
void affine_maps(std::span<const TensorView> inputs, int64_t K, const T* invstd, T* scale, T* shift) {
  for (int k = 0; k < 3; ++k) {
    const T* gamma = inputs[static_cast<size_t>(gamma_input(k))].data<T>();
    for (int64_t c = 0; c < K; ++c) scale[k * K + c] = gamma[c] * invstd[k * K + c];
    std::copy_n(inputs[static_cast<size_t>(beta_input(k))].data<T>(), K, shift + k * K);
  }
}

// y = a∘b + c of the branches z, by their affine maps [3 K].
template <class T>
void write_product(const T* z, const T* mean, const T* scale, const T* shift, int64_t pixels, int64_t K, T* y) {
  parallel_for(pixels, row_grain(3 * K), [=](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T *za = z + row * 3 * K, *zb = za + K, *zc = zb + K;
      PARABOLA_INDEPENDENT
      for (int64_t c = 0; c < K; ++c) {
        const T a = std::fma(za[c] - mean[c], scale[c], shift[c]);
        const T b = std::fma(zb[c] - mean[K + c], scale[K + c], shift[K + c]);
        y[row * K + c] = std::fma(a, b, std::fma(zc[c] - mean[2 * K + c], scale[2 * K + c], shift[2 * K + c]));
      }
    }
  });
}

}  // namespace

bool output_backward(const OpDef::Kernels& kernels, const BackwardArgs& args, void* product, std::byte* workspace) {
  TensorView y = args.outputs[0];
  y.pointer = product;
  std::array<TensorView, 6> gradients{};
  uint64_t accumulate = 0;
  for (const int i : {output_input, output_input + 1, residual_input}) {
    const int own = i - output_input + 1;
    gradients[static_cast<size_t>(own)] = args.input_gradients[static_cast<size_t>(i)];
    accumulate |= uint64_t{args.accumulates(i)} << own;
  }
  const bool goes_on = std::ranges::any_of(args.input_gradients.first(10), [](const TensorView& d) { return !!d; });
  if (goes_on) gradients[0] = y;
  output_norm(kernels, args, y, workspace).backward(args.outputs[0], args.output_gradients[0], gradients, accumulate);
  return goes_on;
}

template <bool training, class T>
void forward(const ForwardArgs& args) {
  const ConvGeometry g = stacked_geometry(name<training>, args.attributes, args.inputs[0].shape, args.inputs[1].shape);
  const auto& options = args.attributes.get<NormedConvAttributes>();
  const int64_t K = g.K / 3;
  Scratch scratch(args.workspace);
  const bool norms_y = norms_output(args.inputs);
  const Buffers<T> buffers(scratch, g, args.variant == 0, false, norms_y);
  T* z = args.variant == 0 ? buffers.z : args.auxiliary[training ? 2 : 0].data<T>();
  T *scale = buffers.coefficients, *shift = scale + g.K, *mean = scale + 2 * g.K, *invstd = scale + 3 * g.K;
  stack_weights(g, args.inputs, buffers.weights);
  convolve<T>(g, args.inputs[0].data<T>(), buffers.weights, nullptr, z, buffers.tools);
  if constexpr (training) {
    mean = args.auxiliary[0].data<T>();
    invstd = args.auxiliary[1].data<T>();
    if (!args.auxiliary_ready) {
      column_moments(z, RowBlocks{g.pixels(), g.K}, buffers.tools, mean, invstd);
      for (int k = 0; k < 3 && !args.replay; ++k)
        move_running_statistics(mean + k * K, invstd + k * K, g.pixels(), K, options.momentum,
                                args.inputs[static_cast<size_t>(mean_input(k))].data<T>(),
                                args.inputs[static_cast<size_t>(variance_input(k))].data<T>());
      inverse_deviation(invstd, g.K, options.eps, invstd);
    }
  } else {
    given_statistics(args.inputs, K, options.eps, mean, invstd);
  }
  affine_maps(args.inputs, K, invstd, scale, shift);
  write_product(z, mean, scale, shift, g.pixels(), K, args.outputs[0].data<T>());
  if (norms_y)
    output_norm(norm_kernels(DeviceKind::cpu), args, args.outputs[0], reinterpret_cast<std::byte*>(buffers.tools))
        .forward(args.outputs[0], args.replay, args.auxiliary_ready);
}

// With d the gradients of the normed branches (dy∘b, dy∘a, dy), z_hat = (z - mean) invstd and M pixels:
//   dz = gamma invstd (d - sum d / M - z_hat sum(d z_hat) / M);  with given statistics dz = gamma invstd d.
template <bool training, class T>
void backward(const BackwardArgs& args) {
  const ConvGeometry g = stacked_geometry(name<training>, args.attributes, args.inputs[0].shape, args.inputs[1].shape);
  const int64_t K = g.K / 3, pixels = g.pixels();
  Scratch scratch(args.workspace);
  const bool norms_y = norms_output(args.inputs);
  const Buffers<T> buffers(scratch, g, args.variant == 0, true, norms_y);
  T *scale = buffers.coefficients, *shift = scale + g.K, *own_mean = scale + 2 * g.K, *own_invstd = scale + 3 * g.K;
  const T *mean = own_mean, *invstd = own_invstd, *dy = args.output_gradients[0].data<T>();
  const bool wants_weights = args.wants(1) || args.wants(2) || args.wants(3);
  if (args.variant == 0 || args.wants(0)) stack_weights(g, args.inputs, buffers.weights);
  const T* z = args.variant == 0 ? buffers.z : args.auxiliary[training ? 2 : 0].data<T>();
  if (args.variant == 0) convolve<T>(g, args.inputs[0].data<T>(), buffers.weights, nullptr, buffers.z, buffers.tools);
  if constexpr (training) {
    mean = args.auxiliary[0].data<T>();
    invstd = args.auxiliary[1].data<T>();
  } else {
    given_statistics(args.inputs, K, args.attributes.get<NormedConvAttributes>().eps, own_mean, own_invstd);
  }
  affine_maps(args.inputs, K, invstd, scale, shift);
  if (norms_y) {
    write_product(z, mean, scale, shift, pixels, K, buffers.product);
    if (!output_backward(norm_kernels(DeviceKind::cpu), args, buffers.product,
                         reinterpret_cast<std::byte*>(buffers.tools)))
      return;
    dy = buffers.product;
  }
  const auto branch = [=](const T* row, int64_t k, int64_t c) {
    return std::fma(row[k * K + c] - mean[k * K + c], scale[k * K + c], shift[k * K + c]);
  };

  T *sum_d = buffers.gradient, *sum_d_z_hat = sum_d + g.K;  // free until the weight gradient is due
  const auto add_rows = [=](int64_t first, int64_t last, T* partial) {
    for (int64_t row = first; row < last; ++row) {
      const T *in = z + row * 3 * K, *up = dy + row * K;
      PARABOLA_INDEPENDENT
      for (int64_t c = 0; c < K; ++c) {
        const T d[3] = {up[c] * branch(in, 1, c), up[c] * branch(in, 0, c), up[c]};
        for (int64_t k = 0; k < 3; ++k) {
          const int64_t at = k * K + c;
          partial[at] += d[k];
          partial[3 * K + at] = std::fma(d[k], (in[at] - mean[at]) * invstd[at], partial[3 * K + at]);
        }
      }
    }
  };
  column_sums<T>(RowBlocks{pixels, g.K}, 2, buffers.tools, add_rows, [&](int64_t i, double sum) {
    sum_d[i] = static_cast<T>(sum);
    const int k = static_cast<int>(i % g.K / K), input = i < g.K ? beta_input(k) : gamma_input(k);
    if (!args.wants(input)) return;
    T& d = args.input_gradients[static_cast<size_t>(input)].data<T>()[i % K];
    d = args.accumulates(input) ? d + sum_d[i] : sum_d[i];
  });
  if (!args.wants(0) && !wants_weights) return;

  const T inverse_count = T(1) / static_cast<T>(pixels);
  T* dz = buffers.z;
  parallel_for(pixels, row_grain(g.K), [=](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T *in = z + row * 3 * K, *up = dy + row * K;
      T* out = dz + row * 3 * K;
      PARABOLA_INDEPENDENT
      for (int64_t c = 0; c < K; ++c) {
        const T d[3] = {up[c] * branch(in, 1, c), up[c] * branch(in, 0, c), up[c]};
        for (int64_t k = 0; k < 3; ++k) {
          const int64_t at = k * K + c;
          T centred = d[k];
          if constexpr (training)
            centred -= inverse_count * std::fma((in[at] - mean[at]) * invstd[at], sum_d_z_hat[at], sum_d[at]);
          out[at] = scale[at] * centred;
        }
      }
    }
  });
  if (args.wants(0))
    input_gradient<T>(g, dz, buffers.weights, args.input_gradients[0].data<T>(), args.accumulates(0), buffers.tools);
  if (!wants_weights) return;
  weight_gradient<T>(g, args.inputs[0].data<T>(), dz, buffers.gradient, false, buffers.tools);
  T* const gradients[] = {args.input_gradients[1].data<T>(), args.input_gradients[2].data<T>(),
                          args.input_gradients[3].data<T>()};
  const bool accumulate[] = {args.accumulates(1), args.accumulates(2), args.accumulates(3)};
  unstack_gradients<T>(buffers.gradient, 1, K, 1, g.depth(), gradients, accumulate);
}

template void forward<true, float>(const ForwardArgs&);
template void backward<true, float>(const BackwardArgs&);
template void forward<true, double>(const ForwardArgs&);
template void backward<true, double>(const BackwardArgs&);
template void forward<false, float>(const ForwardArgs&);
template void backward<false, float>(const BackwardArgs&);
template void forward<false, double>(const ForwardArgs&);
template void backward<false, double>(const BackwardArgs&);

}  // namespace parabola::normed
