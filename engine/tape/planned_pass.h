// A forward pass without a tape that is planned once and then run for every input of one shape: for inference.
#pragma once
#include <functional>

#include "engine/core/op.h"

namespace parabola {

// What `forward` does for an input like x, as a list of kernel calls with all their arguments. Running it checks no
// shapes and allocates two blocks: one in which every value has a place from its computation to its last reader, and
// one for the result. The bits are those of `forward`.
//
// Tensors that forward reads besides x (weights) are used where they lie: new values in the same storage are seen, a
// new storage is not. What forward does outside of ops is done once, while planning, when results have no values yet.
// Planning takes no memory, but the account's peak counts all results of the pass at once meanwhile.
// UsageError while a tape is open, for ops that change an input, and where the result is computed by no op. Of x only
// the shape, dtype and device count.
class PlannedPass {
 public:
  PlannedPass(const std::function<Tensor(const Tensor&)>& forward, const Tensor& x);
  bool fits(const Tensor& x) const;        // the shape, dtype and device are those that were planned for
  Tensor operator()(const Tensor& x);      // ShapeError where x does not fit
  size_t bytes() const { return bytes_; }  // of the block that holds what lives in between

 private:
  enum class From : uint8_t { fixed, input, places, result };
  struct Place {
    From from = From::fixed;
    size_t offset = 0;  // in bytes, of what it is from
  };
  struct Step {
    const OpDef* op;
    Attributes attributes;
    std::vector<TensorView> views;  // inputs, outputs, auxiliary results; pointers are set in each run
    std::vector<Place> places;      // of the views
    size_t inputs, outputs;
    size_t workspace = 0;  // its place, where has_workspace
    bool has_workspace = false;
    Cost cost;
  };
  TensorSpec input_;
  Device device_;
  std::vector<Step> steps_;
  std::vector<Tensor> fixed_;
  TensorSpec result_;
  size_t result_bytes_ = 0;    // of its storage
  int64_t result_offset_ = 0;  // in it, in elements
  size_t bytes_ = 0;
};

}  // namespace parabola
