// How well a model does on a data set.
#pragma once
#include <cstdint>
#include <functional>
#include <span>

#include "data/loader.h"
#include "layers/module.h"

namespace parabola {

struct Score {
  int64_t images = 0, correct = 0, in_top5 = 0;
  double loss = 0;  // mean cross-entropy
  double seconds = 0;
  double top1() const { return images ? static_cast<double>(correct) / static_cast<double>(images) : 0; }
  double top5() const { return images ? static_cast<double>(in_top5) / static_cast<double>(images) : 0; }
};

// Adds one batch. logits [N, K], labels [N]. A label is in the top k where fewer than k classes have a larger logit, or
// an equal one and a smaller index: the same answer in every run. A row that is not all finite counts as wrong.
void add_batch(Score& score, const Tensor& logits, const Tensor& labels);

// All images of `dataset` once, in evaluation mode (the mode that the model was in comes back). on_batch is called
// after each.
Score evaluate(Module& model, DatasetPtr dataset, const Preprocessing& preprocessing, int64_t batch,
               const std::function<void(int64_t images)>& on_batch = {});

}  // namespace parabola
