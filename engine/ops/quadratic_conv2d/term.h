// The term of quadratic_conv2d on the CPU: the sum over ranks of both factors' products, the form of type 1 in its
// place, and the square weight's convolution of x∘x.
#pragma once
#include "engine/ops/quadratic_conv2d/factors.h"

namespace parabola::factors {

Extra term_extra(const Problem& p, const Wanted& wanted);

template <class T>
class ProductTerm final : public Term<T> {
 public:
  template <class Args>
  ProductTerm(const Problem& p, const Args& args)
      : p_(p),
        sampling_(forward_sampling(p.stacked)),
        scale_(static_cast<T>(args.attributes.template get<QuadraticConvAttributes>().scale)),
        x_(args.inputs[input_x].template data<T>()) {
    if (p.parts.square) square_ = args.inputs[input_square].template data<T>();
    if constexpr (std::is_same_v<Args, BackwardArgs>) {
      dy_ = args.output_gradients[0].template data<T>();
      dx_ = args.input_gradients[input_x].template data<T>();
      adds_to_dx_ = args.accumulates(input_x) || p.linear || p.J > 0;
      if (!p.parts.square) return;
      dsquare_ = args.input_gradients[input_square].template data<T>();
      accumulate_ = args.accumulates(input_square);
    }
  }

  void add(const Tile<T>& tile) const override;
  void gradients(const Tile<T>& tile) const override;
  void finish_chunk(int64_t begin, int64_t end, T* chunk, T* tools) const override;

 private:
  int64_t width() const { return p_.K / p_.stacked.groups; }
  int64_t depth() const { return p_.stacked.depth(); }
  int64_t row() const { return p_.stacked.groups * depth(); }  // of the patches of all groups
  Factor<T> patches(const Tile<T>& tile, int64_t group, T* columns) const {
    const int64_t inputs = p_.stacked.group_inputs();
    return write_patches(sampling_, x_, group * inputs, inputs, tile.begin, tile.end, columns);
  }
  void add_squares(const Tile<T>& tile, T* columns) const;
  void add_patch_gradients(int64_t begin, int64_t end, const T* gradients) const;

  const Problem& p_;
  Sampling sampling_;
  T scale_;
  const T *x_, *square_ = nullptr, *dy_ = nullptr;
  T *dx_ = nullptr, *dsquare_ = nullptr;
  bool adds_to_dx_ = false, accumulate_ = false;
};

}  // namespace parabola::factors
