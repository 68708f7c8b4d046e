// CIFAR's binary files: records of an image's label and its 32x32 pixels as three planes (1,024 red, 1,024 green, 1,024
// blue bytes, row-major). CIFAR-10 has a label byte; CIFAR-100 has two, of which the second, the fine one, is used (the
// coarse one groups the 100 classes into 20).
// Source: https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky)
#pragma once
#include <string>

#include "data/dataset.h"

namespace parabola {

// The training images (data_batch_1.bin to data_batch_5.bin, in this order) or the test images (test_batch.bin) of a
// folder. Class names come from batches.meta.txt where there is one. A file may hold any number of records, but only
// whole ones. UsageError: a file that is not there. FormatError: a file cut off, a label over 9, a list of other than
// ten names.
DatasetPtr read_cifar10_train(const std::string& folder);
DatasetPtr read_cifar10_test(const std::string& folder);

// The same for CIFAR-100: train.bin, test.bin, and fine_label_names.txt; where that is missing, classes are called 0 to
// 99.
DatasetPtr read_cifar100_train(const std::string& folder);
DatasetPtr read_cifar100_test(const std::string& folder);

}  // namespace parabola
