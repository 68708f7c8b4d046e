// Images made from random numbers: a data set that needs no files, for a first try of a model and for benchmarks.
#pragma once
#include <cstdint>

#include "data/dataset.h"

namespace parabola {

// `size` images, numbers `first` and on of one endless sequence (so that two ranges share no image). Image i has class
// i mod classes: a plane wave of that class's direction, length and colours, plus noise of a third of its amplitude;
// easy to learn, not trivial. A pure function of its arguments: pixels come from Philox's stream `data`.
DatasetPtr synthetic_dataset(const char* name, int64_t first, int64_t size, int classes, int height, int width);

}  // namespace parabola
