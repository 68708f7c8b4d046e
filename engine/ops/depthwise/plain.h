// Depthwise convolution by straight loops, no tiles: what the kernels are tested against.
#pragma once
#include <cmath>

#include "engine/ops/conv2d/geometry.h"

namespace parabola::depthwise {

// Calls body(output, input, weight), indices into y [N, Ho, Wo, C], x [N, H, W, C] and weight [R, S, C], for every
// product of the sum; those of one output in the order of the taps, which is that of the kernels too.
template <class Body>
void each_product(const ConvGeometry& g, Body&& body) {
  for (int64_t pixel = 0; pixel < g.pixels(); ++pixel)
    for (int64_t r = 0; r < g.R; ++r)
      for (int64_t s = 0; s < g.S; ++s) {
        const int64_t h = pixel / g.Wo % g.Ho * g.stride - g.padding + r * g.dilation;
        const int64_t w = pixel % g.Wo * g.stride - g.padding + s * g.dilation;
        if (h < 0 || h >= g.H || w < 0 || w >= g.W) continue;
        const int64_t input = (pixel / g.image_pixels() * g.H + h) * g.W + w;
        for (int64_t c = 0; c < g.C; ++c) body(pixel * g.C + c, input * g.C + c, (r * g.S + s) * g.C + c);
      }
}

// y += weight * x, and the two gradients of a loss with dy, each added to what is there.
template <class T>
void plain_forward(const ConvGeometry& g, const T* x, const T* weight, T* y) {
  each_product(g, [=](int64_t o, int64_t i, int64_t k) { y[o] = std::fma(x[i], weight[k], y[o]); });
}
template <class T>
void plain_input_gradient(const ConvGeometry& g, const T* dy, const T* weight, T* dx) {
  each_product(g, [=](int64_t o, int64_t i, int64_t k) { dx[i] = std::fma(dy[o], weight[k], dx[i]); });
}
template <class T>
void plain_weight_gradient(const ConvGeometry& g, const T* x, const T* dy, T* dweight) {
  each_product(g, [=](int64_t o, int64_t i, int64_t k) { dweight[k] = std::fma(dy[o], x[i], dweight[k]); });
}

}  // namespace parabola::depthwise
