// What the two quadratic convolutions share on CUDA; factors.h is the CPU's, with the problem and its scratch. The
// batch is gone through in chunks, in whose scratch both factors' products and, in backward, their gradients lie.
#pragma once
#include "engine/ops/conv2d/convolve.cuh"
#include "engine/ops/quadratic_conv2d/factors.h"
#include "engine/ops/quadratic_term.cuh"

namespace parabola::factors {

// A chunk's rows of the products a*x and b*x, of their gradients (the same rows, or others), of y or dy, and as many
// elements of scratch a pixel as the term asked for. The patches are there where a product or the term reads them.
template <class T>
struct ChunkRows {
  int64_t pixels;
  T *products, *gradients, *y, *scratch;
  bool first;  // of all chunks
  ConvChunk chunk;
  DeviceColumns<T> patches;
};

// What an op makes of the products.
template <class T>
class DeviceTerm {
 public:
  virtual ~DeviceTerm() = default;
  virtual void add(const ChunkRows<T>& rows) const = 0;        // y += scale * term
  virtual void gradients(const ChunkRows<T>& rows) const = 0;  // y is dy; of the products, and of what only this op has
  virtual void finish(const ChunkRows<T>& /*rows*/) const {}   // once the factors' part of dx is there: the term's own
};

// How a*x lies in the products' rows; b*x is `to_b` elements further on, and the same where there is one factor.
inline ProductRows product_rows(const Problem& p) {
  const int64_t width = p.K / p.stacked.groups;
  return {.ranks = p.J, .width = width, .stride = p.stacked.K, .group_stride = p.parts.factors() * p.J * width};
}
inline int64_t to_b(const Problem& p) { return (p.parts.factors() - 1) * p.J * p.K / p.stacked.groups; }

// `extra`: elements of scratch a pixel for the term.
template <class T>
void device_forward(const Problem& p, const ForwardArgs& args, int64_t extra, const DeviceTerm<T>& term);
template <class T>
void device_backward(const Problem& p, const BackwardArgs& args, int64_t extra, const DeviceTerm<T>& term);

size_t device_forward_workspace(const Problem& p, const Signature& s, int64_t extra);
size_t device_backward_workspace(const Problem& p, const Signature& s, int64_t extra);

}  // namespace parabola::factors
