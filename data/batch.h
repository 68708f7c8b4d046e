// A batch on its way from the data set to the model.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/core/tensor.h"

namespace parabola {

// A batch in plain memory: what the loader's own thread prepares, since only the main thread allocates tensors.
struct HostBatch {
  Shape shape;                         // [N, H, W, C]
  std::vector<float> images;           // preprocessed, row-major
  std::vector<int32_t> labels;         // N
  std::vector<int64_t> samples;        // N, each image's number in the data set
  int64_t number = 0;                  // of this batch in its epoch, from 0
  std::vector<int32_t> partners = {};  // N, or empty: as in Batch
  double share = 1;
};

// What a training step takes.
struct Batch {
  Tensor images;                 // f32 [N, H, W, C], on the device that the loader was asked for
  Tensor labels;                 // i32 [N], there too
  std::vector<int64_t> samples;  // N, each image's number in the data set
  int64_t number = 0;            // of this batch in its epoch, from 0
  // Where images are mixed (augment.h), a target is `share` of the label and the rest of the partner, i32 [N]; share is
  // at least one half. Else partners is absent.
  Tensor partners = {};
  double share = 1;
};

// Copies into new tensors on the CPU (category inputs). The host batch keeps its memory, to be filled again.
Batch to_batch(const HostBatch& host);

}  // namespace parabola
