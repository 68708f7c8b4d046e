#include "apps/common/evaluation.h"

#include <chrono>
#include <cmath>

#include "layers/inference.h"

namespace parabola {

void add_batch(Score& score, const Tensor& logits, const Tensor& labels) {
  const int64_t rows = logits.shape()[0], classes = logits.shape()[1];
  const Tensor here = logits.on_cpu(), labels_here = labels.on_cpu();
  for (int64_t n = 0; n < rows; ++n) {
    const float* row = here.data<float>() + n * classes;
    const int64_t label = labels_here.data<int32_t>()[n];
    double sum = 0;
    int64_t ahead = 0;
    for (int64_t k = 0; k < classes; ++k) {
      sum += std::exp(static_cast<double>(row[k]) - static_cast<double>(row[label]));
      if (!(row[k] <= row[label]) || (row[k] == row[label] && k < label)) ++ahead;
    }
    ++score.images;
    score.correct += ahead == 0;
    score.in_top5 += ahead < 5;
    score.loss += (std::log(sum) - score.loss) / static_cast<double>(score.images);  // running mean
  }
}

Score evaluate(Module& model, DatasetPtr dataset, const Preprocessing& preprocessing, int64_t batch_size,
               const std::function<void(int64_t)>& on_batch) {
  const auto begin = std::chrono::steady_clock::now();
  const bool was_training = model.training();
  model.set_training(false);
  Inference infer(model);
  Score score;
  Loader loader(std::move(dataset), {.batch = batch_size, .preprocessing = preprocessing, .device = device_of(model)});
  for (Batch& batch : loader) {
    add_batch(score, infer(batch.images), batch.labels);
    if (on_batch) on_batch(batch.labels.elements());
  }
  model.set_training(was_training);
  score.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return score;
}

}  // namespace parabola
