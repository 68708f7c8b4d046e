// quadratic_conv2d on CUDA: of a chunk's products, the sum over ranks; of its patches, x∘x and the left factor of a
// form.
#include "engine/ops/quadratic_conv2d/quadratic_conv2d.h"

#include "engine/ops/quadratic_conv2d/factors.cuh"
#include "engine/ops/quadratic_patches.cuh"

namespace parabola::quadratic_conv2d_cuda {
namespace {

using namespace factors;

// Elements of scratch a pixel: gradients of its patch, and x∘x or its gradient. Alike in both directions, so that the
// chunks are.
int64_t extra_of(const Problem& p) {
  const int64_t patch = p.stacked.groups * p.stacked.depth();
  return (p.parts.form() || p.parts.square ? patch : 0) + (p.parts.square ? patch : 0);
}

template <class T>
class ProductTerm final : public DeviceTerm<T> {
 public:
  template <class Args>
  ProductTerm(const Problem& p, const Args& args)
      : p_(p),
        in_(product_rows(p)),
        scale_(static_cast<T>(args.attributes.template get<QuadraticConvAttributes>().scale)),
        stream_(args.stream) {
    if (p.parts.square) square_ = args.inputs[input_square].template data<T>();
    if constexpr (std::is_same_v<Args, BackwardArgs>) {
      products_wanted_ = Wanted(p, args).products;
      dx_ = args.input_gradients[input_x].template data<T>();
      adds_to_dx_ = args.accumulates(input_x) || p.linear || p.J > 0;
      if (!p.parts.square) return;
      dsquare_ = args.input_gradients[input_square].template data<T>();
      accumulate_ = args.accumulates(input_square);
    }
  }

  void add(const ChunkRows<T>& rows) const override {
    if (square_) {
      device_squares(stream_, patches(rows), scale_, squares(rows));
      device_gemm_batched<T>(stream_, groups(), rows.pixels, width(), depth(), {squares(rows), depth()},
                             rows.pixels * depth(), {square_, depth(), true}, width() * depth(), rows.y, p_.outputs,
                             width(), true);
    }
    if (p_.parts.form())
      launch_on_columns(quadratic_form_forward<T>, stream_, rows.pixels, p_.outputs, in_, patches(rows), rows.products,
                        scale_, rows.y, rows.pixels, p_.outputs);
    else if (p_.J > 0)
      launch_on_columns(quadratic_term_forward<T>, stream_, rows.pixels, p_.outputs, in_, rows.products,
                        rows.products + to_b(p_), scale_, rows.y, true, rows.pixels, p_.outputs);
  }

  void gradients(const ChunkRows<T>& rows) const override {
    T* dpatches = dx_ ? rows.scratch : nullptr;
    if (products_wanted_ && p_.parts.form())
      device_form_backward<T>(stream_, in_, patches(rows), rows.products, scale_, rows.y, dpatches, false,
                              rows.gradients, p_.outputs);
    else if (products_wanted_)  // of a square, a∘a, both halves are one
      launch_on_columns(quadratic_term_backward<T>, stream_, rows.pixels, p_.outputs, in_, rows.products,
                        rows.products + to_b(p_), p_.parts.squared() ? 2 * scale_ : scale_, rows.y, rows.gradients,
                        p_.parts.squared() ? nullptr : rows.gradients + to_b(p_), rows.pixels, p_.outputs);
    if (p_.parts.square && dx_) {
      device_gemm_batched<T>(stream_, groups(), rows.pixels, depth(), width(), {rows.y, p_.outputs}, width(),
                             {square_, depth()}, width() * depth(), squares(rows), depth(), rows.pixels * depth(),
                             false);
      device_squares_backward<T>(stream_, patches(rows), scale_, squares(rows), dpatches, p_.parts.form());
    }
    if (dsquare_) {
      device_squares(stream_, patches(rows), scale_, squares(rows));
      device_gemm_batched<T>(stream_, groups(), width(), depth(), rows.pixels, {rows.y, p_.outputs, true}, width(),
                             {squares(rows), depth()}, rows.pixels * depth(), dsquare_, depth(), width() * depth(),
                             accumulate_ || !rows.first);
    }
  }

  void finish(const ChunkRows<T>& rows) const override {
    if (dx_ && (p_.parts.form() || p_.parts.square))
      device_gather(stream_, p_.stacked, rows.chunk, rows.scratch, dx_, adds_to_dx_);
  }

 private:
  int64_t groups() const { return p_.stacked.groups; }
  int64_t width() const { return p_.K / groups(); }
  int64_t depth() const { return p_.stacked.depth(); }
  T* squares(const ChunkRows<T>& rows) const { return rows.scratch + rows.pixels * groups() * depth(); }
  PatchRows<T> patches(const ChunkRows<T>& rows) const {
    return {rows.patches.factor.data, rows.patches.factor.stride, rows.patches.step, groups(), rows.pixels, depth()};
  }

  const Problem& p_;
  ProductRows in_;
  T scale_;
  DeviceStream stream_;
  const T* square_ = nullptr;
  T *dx_ = nullptr, *dsquare_ = nullptr;
  bool products_wanted_ = false, adds_to_dx_ = false, accumulate_ = false;
};

const CudaKernels registered(quadratic_conv2d_op,
                             {.kernels = {[](const ForwardArgs& args) {
                                            dispatch_float(args.inputs[0].dtype, "quadratic_conv2d", [&]<class T>() {
                                              const Problem p = product_problem(args);
                                              device_forward<T>(p, args, extra_of(p), ProductTerm<T>(p, args));
                                            });
                                          },
                                          [](const BackwardArgs& args) {
                                            dispatch_float(
                                                args.output_gradients[0].dtype, "quadratic_conv2d", [&]<class T>() {
                                                  const Problem p = product_problem(args);
                                                  device_backward<T>(p, args, extra_of(p), ProductTerm<T>(p, args));
                                                });
                                          }},
                              .forward_workspace =
                                  [](const Signature& s) {
                                    const Problem p = product_problem(s);
                                    return device_forward_workspace(p, s, extra_of(p));
                                  },
                              .backward_workspace =
                                  [](const Signature& s) {
                                    const Problem p = product_problem(s);
                                    return device_backward_workspace(p, s, extra_of(p));
                                  }});

}  // namespace
}  // namespace parabola::quadratic_conv2d_cuda
