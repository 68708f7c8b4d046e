// A model in use: forward passes without a tape, each shape of images planned once.
#pragma once
#include <deque>

#include "engine/tape/planned_pass.h"
#include "layers/module.h"

namespace parabola {

// Inference infer(*model);                // the model as it is; fold it before, where it is not to train on
// const Tensor logits = infer(images);    // the bits of (*model)(images)
//
// UsageError in training mode. While an Inference is in use the model keeps its tensors (their values may change), its
// device and its dtype. See engine/tape/planned_pass.h.
class Inference {
 public:
  explicit Inference(Module& model);
  Tensor operator()(const Tensor& images);

 private:
  Module& model_;
  std::deque<PlannedPass> passes_;  // by shape
};

}  // namespace parabola
