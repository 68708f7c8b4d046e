#include "engine/ops/quadratic_conv2d/quadratic_conv2d_shared.h"

#include <algorithm>

namespace parabola {
namespace {

using namespace factors;
constexpr std::string_view name = "quadratic_conv2d_shared";

// Forward: z and P z of a tile. Backward: dz of a tile, z of a chunk, and P's gradient from it.
Extra extra_of(const Problem& p) {
  const int64_t chunk = p.chunk_images() * p.stacked.image_pixels();
  return {
      .worker = p.tiles.size * (p.K + p.outputs), .chunk = chunk * p.K, .tools = gemm_workspace(p.outputs, p.K, chunk)};
}

template <class T>
class SharedTerm final : public Term<T> {
 public:
  template <class Args>
  SharedTerm(const Problem& p, const Args& args)
      : p_(p),
        scale_(static_cast<T>(args.attributes.template get<QuadraticConvAttributes>().scale)),
        matrix_(args.inputs[input_p].template data<T>()) {
    if constexpr (std::is_same_v<Args, BackwardArgs>) {
      dy_ = args.output_gradients[0].template data<T>();
      dp_ = args.input_gradients[input_p].template data<T>();
      accumulate_ = args.accumulates(input_p);
      factors_wanted_ = args.wants(input_x) || args.wants(input_a) || args.wants(input_b);
    }
  }

  void add(const Tile<T>& tile) const override {
    T *z = tile.worker, *q = z + p_.tiles.size * p_.K;
    multiply(tile, T(1), z);
    tile_product(tile.pixels(), p_.outputs, p_.K, {z, p_.K}, {matrix_, p_.K, true}, q, p_.outputs, false);
    add_scaled(tile.pixels(), p_.outputs, scale_, q, p_.outputs, tile.y, p_.outputs);
  }

  void gradients(const Tile<T>& tile) const override {
    if (dp_) multiply(tile, scale_, tile.chunk + (tile.begin - tile.chunk_begin) * p_.K);
    if (!factors_wanted_) return;
    T* dz = tile.worker;
    tile_product(tile.pixels(), p_.K, p_.outputs, {tile.y, p_.outputs}, {matrix_, p_.K}, dz, p_.K, false);
    factor_gradients(tile.pixels(), p_.K, p_.tile(tile.products, 0), scale_, dz, p_.K, p_.tile(tile.gradients, 0));
  }

  void finish_chunk(int64_t begin, int64_t end, T* chunk, T* tools) const override {
    if (dp_)
      gemm(p_.outputs, p_.K, end - begin, {dy_ + begin * p_.outputs, p_.outputs, true}, {chunk, p_.K}, dp_,
           begin > 0 || accumulate_, tools);
  }

 private:
  // scale * (u*x)∘(v*x) of a tile, rows of Q.
  void multiply(const Tile<T>& tile, T scale, T* z) const {
    const FactorTile<T> f = p_.tile(tile.products, 0);
    for (int64_t row = 0; row < tile.pixels(); ++row)
      for (int64_t c = 0; c < p_.K; ++c)
        z[row * p_.K + c] = scale * f.a[row * f.row_stride + c] * f.b[row * f.row_stride + c];
  }

  const Problem& p_;
  T scale_;
  const T *matrix_, *dy_ = nullptr;
  T* dp_ = nullptr;
  bool accumulate_ = false, factors_wanted_ = false;
};

Layout layout(const Signature& s) {
  const Shape &u = s.shape(input_a), &matrix = s.shape(input_p);
  if (u.rank() != 4) fail<ShapeError>(name, "u: got ", u, ", expected [Q, R, S, C]");
  if (matrix.rank() != 2 || matrix[1] != u[0])
    fail<ShapeError>(name, "p: got ", matrix, " for u of shape ", u, ", expected [K, ", u[0], "]");
  const Problem p = shared_problem(s);
  require_shape(name, s, input_b, "v", u);
  require_shape(name, s, input_bias, "bias", {p.outputs});
  require_one_dtype(name, s);
  Layout layout{.outputs = {{Shape{p.stacked.N, p.stacked.Ho, p.stacked.Wo, p.outputs}, s.dtype()}},
                .forward_workspace = forward_workspace(p, s.dtype(), s.variant, extra_of(p)),
                .backward_workspace = backward_workspace(p, s.dtype(), s.gradient_mask, extra_of(p))};
  if (s.variant == 1) layout.auxiliary = {{p.stacked.output_shape(), s.dtype()}};
  return layout;
}

StepCost cost(const Signature& s) {
  const Problem p = shared_problem(s);
  StepCost cost = common_cost(p, s);
  const double pixels = static_cast<double>(p.stacked.pixels()),
               matrix = 2 * pixels * static_cast<double>(p.outputs * p.K);
  cost.forward.flops += matrix + pixels * static_cast<double>(p.K + 2 * p.outputs);
  if (s.wants_gradient(input_x) || s.wants_gradient(input_a) || s.wants_gradient(input_b))
    cost.backward.flops += matrix + 4 * pixels * static_cast<double>(p.K);
  if (s.wants_gradient(input_p)) cost.backward.flops += matrix + 2 * pixels * static_cast<double>(p.K);
  return cost;
}

Needs needs(const Signature& s) {
  Needs needs = common_needs(shared_problem(s), s);
  if (s.wants_gradient(input_x) || s.wants_gradient(input_a) || s.wants_gradient(input_b)) needs.inputs |= 1 << input_p;
  return needs;
}

}  // namespace

const OpDef quadratic_conv2d_shared_op = {
    .name = name,
    .layout = layout,
    .cost = cost,
    .needs = needs,
    .variants = 2,
    .cpu = {[](const ForwardArgs& args) {
              dispatch_float(args.inputs[0].dtype, name, [&]<class T>() {
                const Problem p = shared_problem(args);
                factors::forward<T>(p, args, extra_of(p), SharedTerm<T>(p, args));
              });
            },
            [](const BackwardArgs& args) {
              dispatch_float(args.output_gradients[0].dtype, name, [&]<class T>() {
                const Problem p = shared_problem(args);
                factors::backward<T>(p, args, extra_of(p), SharedTerm<T>(p, args));
              });
            }},
};

Tensor quadratic_conv2d_shared(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& u,
                               const Tensor& v, const Tensor& p, const QuadraticConvAttributes& attributes) {
  return apply(quadratic_conv2d_shared_op, {x, weight, bias, u, v, p}, attributes);
}

}  // namespace parabola
