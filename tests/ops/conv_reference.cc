#include "tests/ops/conv_reference.h"

namespace parabola::test {

Array naive_conv2d(const ConvGeometry& g, const Array& x, const Array& weight, const Array& bias) {
  Array y;
  const int64_t channels = g.C / g.groups, outputs = g.K / g.groups;
  for (int64_t n = 0; n < g.N; ++n)
    for (int64_t i = 0; i < g.Ho; ++i)
      for (int64_t j = 0; j < g.Wo; ++j)
        for (int64_t k = 0; k < g.K; ++k) {
          double sum = bias.empty() ? 0 : bias[static_cast<size_t>(k)];
          for (int64_t r = 0; r < g.R; ++r)
            for (int64_t s = 0; s < g.S; ++s)
              for (int64_t c = 0; c < channels; ++c) {
                const int64_t h = i * g.stride - g.padding + r * g.dilation,
                              w = j * g.stride - g.padding + s * g.dilation;
                if (h < 0 || h >= g.H || w < 0 || w >= g.W) continue;
                sum += x[static_cast<size_t>(((n * g.H + h) * g.W + w) * g.C + k / outputs * channels + c)] *
                       weight[static_cast<size_t>(((k * g.R + r) * g.S + s) * channels + c)];
              }
          y.push_back(sum);
        }
  return y;
}

}  // namespace parabola::test
