// Shapes, costs and needs of the quadratic convolutions.
#include <algorithm>

#include "engine/ops/conv2d/winograd.h"
#include "engine/ops/quadratic_conv2d/factors.h"

namespace parabola::factors {

bool Problem::same_patches() const {
  if (!linear || J == 0) return false;
  ConvGeometry other = *linear;
  other.K = stacked.K;
  return other == stacked;
}

int64_t Problem::chunk_images() const { return std::min(stacked.N, chunk_tiles / tiles.parts * tiles.images_per_tile); }

Problem make_problem(std::string_view op, const QuadraticConvAttributes& attributes, const Shape& x,
                     const std::optional<Shape>& weight, Parts parts, int64_t J, const Shape& factor, int64_t outputs) {
  std::optional<ConvGeometry> linear;
  if (weight) linear = conv_geometry(op, x, *weight, attributes.linear);
  ConvGeometry stacked = conv_geometry(op, x, factor, attributes.quadratic);
  if (linear && (linear->Ho != stacked.Ho || linear->Wo != stacked.Wo))
    fail<ShapeError>(op, "output sizes: got ", linear->Ho, " x ", linear->Wo, " from the linear kernel and ",
                     stacked.Ho, " x ", stacked.Wo, " from the factors, expected the same");
  if (linear && linear->K != outputs)
    fail<ShapeError>(op, "weight: got ", *weight, ", expected ", outputs, " output channels as the quadratic term has");
  stacked.K = parts.factors() * J * factor[0];
  // A product over patches takes any tiles.
  const ConvGeometry& tiled = linear && !winograd::applies(stacked) ? *linear : stacked;
  const PixelTiles tiles = output_tiles(tiled);
  constexpr int64_t chunk_elements = 1 << 20;       // 4 MiB of floats stay in the last level of cache
  int64_t pixel = std::max<int64_t>(1, stacked.K);  // elements that a chunk holds of it
  if (parts.square) pixel = std::max(pixel, x.product(1, 4) / std::max<int64_t>(1, stacked.image_pixels()));
  const int64_t image_tiles = chunk_elements / std::max<int64_t>(1, tiles.size * pixel) / tiles.parts;
  return {linear, stacked, J, factor[0], outputs, tiles, std::max<int64_t>(1, image_tiles) * tiles.parts, parts};
}

namespace {

// The weight counts where it is there; that backward may not need its bytes does not matter.
std::optional<Shape> weight_shape(const Signature& s) {
  return s.has(input_weight) ? std::optional(s.shape(input_weight)) : std::nullopt;
}
template <class Args>
std::optional<Shape> weight_shape(const Args& args) {
  const Shape& weight = args.inputs[input_weight].shape;
  return weight.rank() == 4 ? std::optional(weight) : std::nullopt;
}

}  // namespace

template <class From>
Problem product_problem(const From& from) {
  const auto shape = [&](int i) {  // of rank 0 where input i is absent
    return static_cast<size_t>(i) < from.inputs.size() ? from.inputs[static_cast<size_t>(i)].shape : Shape{};
  };
  const Shape a = shape(input_a), b = shape(input_b), square = shape(input_square);
  const Parts parts{a.rank() > 0, b.rank() > 0, square.rank() > 0};
  const Shape& factor = parts.a ? a : b;  // [J, K, R, S, C / groups]
  const bool any = parts.factors() > 0;
  const Shape kernel = any ? Shape{factor[1], factor[2], factor[3], factor[4]} : square;
  return make_problem("quadratic_conv2d", from.attributes.template get<QuadraticConvAttributes>(),
                      from.inputs[input_x].shape, weight_shape(from), parts, any ? factor[0] : 0, kernel, kernel[0]);
}

template <class From>
Problem shared_problem(const From& from) {
  QuadraticConvAttributes attributes = from.attributes.template get<QuadraticConvAttributes>();
  attributes.quadratic.groups = 1;
  return make_problem("quadratic_conv2d_shared", attributes, from.inputs[input_x].shape, weight_shape(from), {}, 1,
                      from.inputs[input_a].shape, from.inputs[input_p].shape[0]);
}

template Problem product_problem(const Signature&);
template Problem product_problem(const ForwardArgs&);
template Problem product_problem(const BackwardArgs&);
template Problem shared_problem(const Signature&);
template Problem shared_problem(const ForwardArgs&);
template Problem shared_problem(const BackwardArgs&);

namespace {

uint64_t mask_of(const BackwardArgs& args) {
  uint64_t mask = 0;
  for (size_t i = 0; i < args.input_gradients.size(); ++i) mask |= uint64_t{args.wants(static_cast<int>(i))} << i;
  return mask;
}

}  // namespace

Wanted::Wanted(const Problem& p, uint64_t mask) {
  const auto wants = [&](int i) { return (mask >> i & 1) != 0; };
  x = wants(input_x), weight = wants(input_weight), bias = wants(input_bias), factors = (mask >> input_a & 3) != 0;
  products = p.J > 0 && (x || factors || (!p.parts.square && wants(input_p)));
  squares = p.parts.square && (x || wants(input_square));
  reads_products = p.parts.form() ? x : products;
}

Wanted::Wanted(const Problem& p, const BackwardArgs& args) : Wanted(p, mask_of(args)) {}

StepCost common_cost(const Problem& p, const Signature& s) {
  const Wanted wanted(p, s.gradient_mask);
  const auto bytes = [&](int i) {
    return s.has(i) ? static_cast<double>(s.inputs[static_cast<size_t>(i)].bytes()) : 0.0;
  };
  const double outputs = static_cast<double>(p.stacked.pixels() * p.outputs),
               element = static_cast<double>(size_of(s.dtype()));
  const double x = bytes(input_x), weight = bytes(input_weight), factors = bytes(input_a) + bytes(input_b);
  const double y = outputs * element, products = static_cast<double>(p.stacked.pixels() * p.stacked.K) * element;
  const double linear = p.linear ? p.linear->flops() : 0, stacked = p.stacked.flops();
  StepCost cost{.forward = {linear + stacked, x + weight + factors, y}};
  if (s.variant == 1) cost.forward.bytes_written += products;
  if (wanted.reads_products)  // a*x and b*x: computed again, or read
    cost.backward = s.variant == 0 ? Cost{stacked, x + factors + y, 0} : Cost{0, products + y, 0};
  add_backward(cost, s, input_x, {linear + stacked, y + weight + factors, x});
  add_backward(cost, s, input_weight, {linear, x + y, weight});
  add_backward(cost, s, input_bias, {outputs, y, 0});
  if (wanted.factors)  // both factors go together
    cost.backward.flops += stacked, cost.backward.bytes_read += x, cost.backward.bytes_written += factors;
  return cost;
}

Needs common_needs(const Problem& p, const Signature& s) {
  const Wanted wanted(p, s.gradient_mask);
  const bool kept = s.variant == 1, recomputed = wanted.reads_products && !kept;
  Needs needs{.auxiliary = kept && wanted.reads_products ? uint64_t{1} : 0};
  const auto need = [&](int i, bool is_needed) { needs.inputs |= uint64_t{is_needed && s.has(i)} << i; };
  need(input_x, wanted.weight || wanted.factors || wanted.squares || recomputed || (wanted.x && p.parts.form()));
  need(input_weight, wanted.x);
  need(input_a, wanted.x || recomputed);
  need(input_b, wanted.x || recomputed);
  return needs;
}

}  // namespace parabola::factors
