// What the two quadratic convolutions share: y = C*x + bias + scale * term(a*x, b*x), where the term is the factors'
// product summed over ranks (quadratic_conv2d), or that passed through a further matrix (quadratic_conv2d_shared). Both
// factors run as one convolution with stacked outputs, forward and backward.
#pragma once
#include <optional>

#include "engine/ops/checks.h"
#include "engine/ops/conv2d/convolve.h"
#include "engine/ops/quadratic_term.h"

namespace parabola {

// Of both ops. Stride, padding and dilation of the factors may differ from the linear kernel's; both must give the same
// output size. `scale` is s, often alpha / rank.
struct QuadraticConvAttributes {
  ConvAttributes linear, quadratic;
  double scale = 1;
};

namespace factors {

// Positions of the inputs; the factors are a and b, or u and v, and only quadratic_conv2d_shared has a p.
enum : int { input_x, input_weight, input_bias, input_a, input_b, input_p };

struct Problem {
  std::optional<ConvGeometry> linear;  // absent: no linear kernel
  ConvGeometry stacked;                // all 2 J K outputs of the factors as one convolution
  int64_t J, K, outputs;               // ranks, outputs of one, outputs of the op
  PixelTiles tiles;                    // conv2d's where there is a linear kernel, so that its term has conv2d's bits
  int64_t chunk_tiles;                 // tiles, of whole images, whose products backward holds at a time

  const ConvGeometry& any() const { return linear ? *linear : stacked; }
  bool same_patches() const;  // the linear kernel and the factors read the same pixels
  int64_t kernel_elements() const { return stacked.K * stacked.depth(); }
  int64_t chunk_images() const;

  // Group `group` of the factors' products, or of their gradients, in rows of all 2 J K.
  template <class T>
  FactorTile<T> tile(T* products, int64_t group) const {
    const int64_t width = K / stacked.groups, begin = group * 2 * J * width;
    return {products + begin, products + begin + J * width, J, stacked.K, width};
  }
};

// The factors are J kernels of `factor` [K, R, S, C / groups] each. ShapeError and UsageError, naming `op`, where x,
// the weight (absent: none), bias and factors do not fit together.
Problem make_problem(std::string_view op, const QuadraticConvAttributes& attributes, const Shape& x,
                     const std::optional<Shape>& weight, int64_t J, const Shape& factor, int64_t outputs);

// The ops' problems, from a signature or from the arguments of a kernel.
template <class From>
Problem product_problem(const From& from);
template <class From>
Problem shared_problem(const From& from);

// What backward makes of the factors, given which inputs want gradients.
struct Wanted {
  bool x, weight, bias, factors, products;  // gradients of inputs; of a or b; any that needs a*x and b*x
  explicit Wanted(uint64_t mask)
      : x(mask >> input_x & 1),
        weight(mask >> input_weight & 1),
        bias(mask >> input_bias & 1),
        factors((mask >> input_a & 3) != 0),
        products(x || mask >> input_a != 0) {}
  explicit Wanted(const BackwardArgs& args);
};

// Scratch that an op's term asks for, in elements: of each worker, of a chunk in backward, and in `tools`, which serves
// one thing after the other.
struct Extra {
  int64_t worker = 0, chunk = 0, tools = 0;
};

size_t forward_workspace(const Problem& p, DType dtype, int variant, const Extra& extra);
size_t backward_workspace(const Problem& p, DType dtype, uint64_t gradient_mask, const Extra& extra);

// Of what both ops do; the op adds its term's.
StepCost common_cost(const Problem& p, const Signature& s);
Needs common_needs(const Signature& s);

// A tile of output pixels [begin, end): its rows of the products a*x and b*x, of their gradients, of y or dy; scratch
// of the worker and, in backward, of the chunk, which began at pixel `chunk_begin`.
template <class T>
struct Tile {
  int64_t begin, end;
  T *products, *gradients, *y, *worker, *chunk;
  int64_t chunk_begin;
  int64_t pixels() const { return end - begin; }
};

// What an op makes of the products.
template <class T>
class Term {
 public:
  virtual ~Term() = default;
  virtual void add(const Tile<T>& tile) const = 0;        // y += scale * term
  virtual void gradients(const Tile<T>& tile) const = 0;  // y is dy; products and gradients may be the same rows
  // Once all tiles of pixels [begin, end) are done: gradients of inputs that only this op has.
  virtual void finish_chunk(int64_t /*begin*/, int64_t /*end*/, T* /*chunk*/, T* /*tools*/) const {}
};

template <class T>
void forward(const Problem& p, const ForwardArgs& args, const Extra& extra, const Term<T>& term);
template <class T>
void backward(const Problem& p, const BackwardArgs& args, const Extra& extra, const Term<T>& term);

}  // namespace factors
}  // namespace parabola
