// quadratic_conv2d_shared on CUDA: of a chunk's products, z = (u*x)∘(v*x) and its product with P.
#include "engine/ops/quadratic_conv2d/quadratic_conv2d_shared.h"

#include "engine/ops/quadratic_conv2d/factors.cuh"

namespace parabola::quadratic_conv2d_shared_cuda {
namespace {

using namespace factors;

template <class T>
class SharedTerm final : public DeviceTerm<T> {
 public:
  template <class Args>
  SharedTerm(const Problem& p, const Args& args)
      : in_(product_rows(p)),
        Q_(p.K),
        outputs_(p.outputs),
        scale_(static_cast<T>(args.attributes.template get<QuadraticConvAttributes>().scale)),
        matrix_(args.inputs[input_p].template data<T>()),
        stream_(args.stream) {
    if constexpr (std::is_same_v<Args, BackwardArgs>) {
      dp_ = args.input_gradients[input_p].template data<T>();
      accumulate_ = args.accumulates(input_p);
      const Wanted wanted(p, args);
      factors_wanted_ = wanted.x || wanted.factors;
    }
  }

  // y += (scale z) Pᵀ.
  void add(const ChunkRows<T>& rows) const override {
    const T* z = multiply(rows);
    device_gemm(stream_, rows.pixels, outputs_, Q_, {z, Q_}, {matrix_, Q_, true}, rows.y, outputs_, true);
  }

  // dp += dyᵀ (scale z); then dz = dy P in the place of z.
  void gradients(const ChunkRows<T>& rows) const override {
    if (dp_)
      device_gemm(stream_, outputs_, Q_, rows.pixels, {rows.y, outputs_, true}, {multiply(rows), Q_}, dp_, Q_,
                  accumulate_ || !rows.first);
    if (!factors_wanted_) return;
    T* dz = rows.scratch;
    device_gemm(stream_, rows.pixels, Q_, outputs_, {rows.y, outputs_}, {matrix_, Q_}, dz, Q_, false);
    launch_on_columns(quadratic_term_backward<T>, stream_, rows.pixels, Q_, in_, rows.products, rows.products + Q_,
                      scale_, dz, rows.gradients, rows.gradients + Q_, rows.pixels, Q_);
  }

 private:
  // scale * z, rows of Q, in the chunk's scratch.
  const T* multiply(const ChunkRows<T>& rows) const {
    launch_on_columns(quadratic_term_forward<T>, stream_, rows.pixels, Q_, in_, rows.products, rows.products + Q_,
                      scale_, rows.scratch, false, rows.pixels, Q_);
    return rows.scratch;
  }

  ProductRows in_;
  int64_t Q_, outputs_;
  T scale_;
  const T* matrix_;
  DeviceStream stream_;
  T* dp_ = nullptr;
  bool accumulate_ = false, factors_wanted_ = false;
};

const CudaKernels registered(quadratic_conv2d_shared_op,
                             {.kernels = {[](const ForwardArgs& args) {
                                            dispatch_float(args.inputs[0].dtype, "quadratic_conv2d_shared",
                                                           [&]<class T>() {
                                                             const Problem p = shared_problem(args);
                                                             device_forward<T>(p, args, p.K, SharedTerm<T>(p, args));
                                                           });
                                          },
                                          [](const BackwardArgs& args) {
                                            dispatch_float(args.output_gradients[0].dtype, "quadratic_conv2d_shared",
                                                           [&]<class T>() {
                                                             const Problem p = shared_problem(args);
                                                             device_backward<T>(p, args, p.K, SharedTerm<T>(p, args));
                                                           });
                                          }},
                              .forward_workspace =
                                  [](const Signature& s) {
                                    const Problem p = shared_problem(s);
                                    return device_forward_workspace(p, s, p.K);
                                  },
                              .backward_workspace =
                                  [](const Signature& s) {
                                    const Problem p = shared_problem(s);
                                    return device_backward_workspace(p, s, p.K);
                                  }});

}  // namespace
}  // namespace parabola::quadratic_conv2d_shared_cuda
