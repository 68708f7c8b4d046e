// quadratic_conv2d on CUDA: of a chunk's products, the sum over ranks.
#include "engine/ops/quadratic_conv2d/quadratic_conv2d.h"

#include "engine/ops/quadratic_conv2d/factors.cuh"

namespace parabola {
namespace {

using namespace factors;

template <class T>
class ProductTerm final : public DeviceTerm<T> {
 public:
  template <class Args>
  ProductTerm(const Problem& p, const Args& args)
      : in_(product_rows(p)),
        to_b_(to_b(p)),
        outputs_(p.outputs),
        scale_(static_cast<T>(args.attributes.template get<QuadraticConvAttributes>().scale)),
        stream_(args.stream) {}

  void add(const ChunkRows<T>& rows) const override {
    launch_on_columns(quadratic_term_forward<T>, stream_, rows.pixels, outputs_, in_, rows.products,
                      rows.products + to_b_, scale_, rows.y, true, rows.pixels, outputs_);
  }
  void gradients(const ChunkRows<T>& rows) const override {
    launch_on_columns(quadratic_term_backward<T>, stream_, rows.pixels, outputs_, in_, rows.products,
                      rows.products + to_b_, scale_, rows.y, rows.gradients, rows.gradients + to_b_, rows.pixels,
                      outputs_);
  }

 private:
  ProductRows in_;
  int64_t to_b_, outputs_;
  T scale_;
  DeviceStream stream_;
};

const CudaKernels registered(
    quadratic_conv2d_op,
    {.kernels = {[](const ForwardArgs& args) {
                   dispatch_float(args.inputs[0].dtype, "quadratic_conv2d", [&]<class T>() {
                     const Problem p = product_problem(args);
                     device_forward<T>(p, args, 0, ProductTerm<T>(p, args));
                   });
                 },
                 [](const BackwardArgs& args) {
                   dispatch_float(args.output_gradients[0].dtype, "quadratic_conv2d", [&]<class T>() {
                     const Problem p = product_problem(args);
                     device_backward<T>(p, args, 0, ProductTerm<T>(p, args));
                   });
                 }},
     .forward_workspace = [](const Signature& s) { return device_forward_workspace(product_problem(s), s, 0); },
     .backward_workspace = [](const Signature& s) { return device_backward_workspace(product_problem(s), s, 0); }});

}  // namespace
}  // namespace parabola
