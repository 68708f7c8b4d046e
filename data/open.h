// From the command line's --data SPEC to data sets.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/augment.h"
#include "data/dataset.h"

namespace parabola {

struct DataSplits {
  DatasetPtr train;
  DatasetPtr test;
  Augmentation augment = {};            // the data set's usual
  std::string spec = {};                // as the user wrote it
  std::vector<std::string> notes = {};  // lines for people about what was found
};

struct ImageSize {
  int height = 32;
  int width = 32;
};

// Opens `fashion-mnist[:DIR]`, `mnist:DIR`, `cifar10:DIR`, `cifar100:DIR`, `imagefolder:DIR` or `synthetic[:CLASSES]`
// (1,024 training and 256 test images of synthetic_size, the only data set that fits itself to a model). limit: only
// the first so many images of each split; 0: all. UsageError: an unknown data set, a missing or needless argument, a
// folder without the files; FormatError: bad files.
DataSplits open_data(const std::string& spec, int64_t limit = 0, ImageSize synthetic_size = {});

}  // namespace parabola
