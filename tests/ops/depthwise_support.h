// What the tests of the depthwise ops share.
#pragma once
#include <vector>

#include "engine/ops/binary.h"
#include "engine/ops/depthwise/depthwise_conv2d.h"
#include "engine/ops/reduce.h"
#include "engine/tape/tape.h"
#include "tests/ops/conv_reference.h"

namespace parabola::test {

inline ConvGeometry depthwise_geometry(const Shape& x, int64_t R, int64_t S, const DepthwiseAttributes& a) {
  return conv_geometry("test", x, x[3], R, S, {a.stride, a.padding, a.dilation, static_cast<int>(x[3])});
}

// By the general convolution's definition, with as many groups as channels; weight [R, S, C].
inline Array naive_depthwise(const Shape& x_shape, int64_t R, int64_t S, const DepthwiseAttributes& attributes,
                             const Array& x, const Array& weight, const Array& bias) {
  const ConvGeometry g = depthwise_geometry(x_shape, R, S, attributes);
  Array channels_first;  // [C, R, S, 1]
  for (int64_t c = 0; c < g.C; ++c)
    for (int64_t tap = 0; tap < R * S; ++tap) channels_first.push_back(weight[static_cast<size_t>(tap * g.C + c)]);
  return naive_conv2d(g, x, channels_first, bias);
}

template <class T>
std::vector<T> random_values(const Shape& shape, uint32_t item) {
  const Array values = random_array(shape.elements(), -1, 1, item);
  return {values.begin(), values.end()};
}

template <class T>
Tensor leaf(const std::vector<T>& values, const Shape& shape) {
  return Tensor::from(values, shape).set_requires_gradient(true);
}

inline Array as_array(const Tensor& tensor) {
  Array values;
  for (int64_t i = 0; i < tensor.elements(); ++i) values.push_back(tensor.at(i));
  return values;
}

// Runs the tape's backward with `dy` as the gradient of `output`.
template <class T>
void backward_from(Tape& tape, const Tensor& output, const std::vector<T>& dy) {
  tape.backward(sum(output * Tensor::from(dy, output.shape())));
}

}  // namespace parabola::test
