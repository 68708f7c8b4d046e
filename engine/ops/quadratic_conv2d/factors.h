// What the two quadratic convolutions share: y = C*x + bias + scale * term(a*x, b*x), where the term is the factors'
// product summed over ranks (quadratic_conv2d), or that passed through a further matrix (quadratic_conv2d_shared). Both
// factors run as one convolution with stacked outputs, forward and backward. quadratic_conv2d may have one factor, or
// none, and a weight for x∘x (quadratic_types.h).
#pragma once
#include <optional>
#include <span>

#include "engine/ops/checks.h"
#include "engine/ops/conv2d/convolve.h"
#include "engine/ops/data_of.h"
#include "engine/ops/quadratic_term.h"

namespace parabola {

// Of both ops. Stride, padding and dilation of the factors may differ from the linear kernel's; both must give the same
// output size. `scale` is s, often alpha / rank.
struct QuadraticConvAttributes {
  ConvAttributes linear, quadratic;
  double scale = 1;
};

namespace factors {

// Positions of the inputs; the factors are a and b, or u and v. The last one is quadratic_conv2d's, or
// quadratic_conv2d_shared's.
enum : int { input_x, input_weight, input_bias, input_a, input_b, input_square, input_p = input_square };

// What the term consists of.
struct Parts {
  bool a = true, b = true, square = false;
  bool form() const { return b && !a; }                        // type 1: a_j*x is the patch's j-th value
  bool squared() const { return a && !b; }                     // type 3: b_j*x is a_j*x
  int64_t factors() const { return int64_t{a} + int64_t{b}; }  // that there are products of
  // Of something that a and b have each, what those have that are there.
  template <class T>
  std::span<T> present(std::span<T> both) const {
    return both.subspan(a ? 0 : 1, static_cast<size_t>(factors()));
  }
};

struct Problem {
  std::optional<ConvGeometry> linear;  // absent: no linear kernel
  ConvGeometry stacked;                // all (2 J K) outputs of the factors as one convolution
  int64_t J, K, outputs;               // ranks (0: no factors), outputs of one, outputs of the op
  PixelTiles tiles;                    // that give the linear term conv2d's bits
  int64_t chunk_tiles;                 // tiles, of whole images, whose products backward holds at a time
  Parts parts;

  const ConvGeometry& any() const { return linear ? *linear : stacked; }
  bool same_patches() const;  // the linear kernel and the factors read the same pixels
  int64_t kernel_elements() const { return stacked.K * stacked.depth(); }
  int64_t chunk_images() const;

  // Group `group` of the factors' products, or of their gradients, in rows of all of them. A sole factor is both.
  template <class T>
  FactorTile<T> tile(T* products, int64_t group) const {
    const int64_t width = K / stacked.groups, begin = group * parts.factors() * J * width;
    return {products + begin, products + begin + (parts.factors() - 1) * J * width, J, stacked.K, width};
  }
};

// The factors are J kernels of `factor` [K, R, S, C / groups] each. ShapeError and UsageError, naming `op`, where x,
// the weight (absent: none), bias and factors do not fit together.
Problem make_problem(std::string_view op, const QuadraticConvAttributes& attributes, const Shape& x,
                     const std::optional<Shape>& weight, Parts parts, int64_t J, const Shape& factor, int64_t outputs);

// The ops' problems, from a signature or from the arguments of a kernel.
template <class From>
Problem product_problem(const From& from);
template <class From>
Problem shared_problem(const From& from);

// What backward makes, given which inputs want gradients.
struct Wanted {
  bool x, weight, bias, factors;  // gradients of inputs; of a or b
  bool products, squares;         // any that the factors, or the square weight, have a part in
  bool reads_products;            // backward reads a*x and b*x
  Wanted(const Problem& p, uint64_t mask);
  Wanted(const Problem& p, const BackwardArgs& args);
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
Needs common_needs(const Problem& p, const Signature& s);

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
  // Once all else of pixels [begin, end) is done: gradients of inputs that only this op has, and its own part of dx.
  virtual void finish_chunk(int64_t /*begin*/, int64_t /*end*/, T* /*chunk*/, T* /*tools*/) const {}
};

template <class T>
void forward(const Problem& p, const ForwardArgs& args, const Extra& extra, const Term<T>& term);
template <class T>
void backward(const Problem& p, const BackwardArgs& args, const Extra& extra, const Term<T>& term);

}  // namespace factors
}  // namespace parabola
