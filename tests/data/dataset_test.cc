// Data sets in memory, views of them, the synthetic one, and --data.
#include "data/dataset.h"

#include <algorithm>
#include <filesystem>

#include "data/idx.h"
#include "data/open.h"
#include "data/synthetic.h"
#include "engine/core/error.h"
#include "tests/support/test.h"

namespace parabola::dataset_test {
namespace {
using Bytes = std::vector<uint8_t>;

// Four RGB images of one pixel, image i with levels 10 i, 10 i + 1, 10 i + 2 and label i mod 2.
DatasetPtr four_images() {
  return memory_dataset({.name = "four", .size = 4, .height = 1, .width = 1, .class_names = {"even", "odd"}}, 3,
                        {0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32}, {0, 1, 0, 1}, "labels");
}

Bytes pixels_of(const Dataset& data, int64_t index) {
  Image image;
  data.image(index, image);
  return image.rgb;
}

}  // namespace

TEST_CASE("dataset: images in memory") {
  const DatasetPtr data = four_images();
  CHECK(data->classes() == 2);
  CHECK(data->label(3) == 1);
  CHECK(pixels_of(*data, 3) == Bytes{30, 31, 32});
  CHECK_THROWS_AS(data->label(4), std::logic_error);
  CHECK_THROWS_AS(pixels_of(*data, -1), std::logic_error);
  CHECK_THROWS_AS(memory_dataset({.name = "none"}, 3, {}, {}, "labels"), FormatError);
  CHECK_THROWS_AS(memory_dataset({.name = "short", .size = 1, .height = 1, .width = 1, .class_names = {"a"}}, 3, {1, 2},
                                 {0}, "labels"),
                  FormatError);
}

TEST_CASE("dataset: a subset shows images of the whole under numbers of its own") {
  const DatasetPtr middle = subset(four_images(), 1, 2);
  CHECK(middle->size() == 2);
  CHECK(middle->class_names() == std::vector<std::string>{"even", "odd"});
  CHECK(middle->label(0) == 1);
  CHECK(pixels_of(*middle, 1) == Bytes{20, 21, 22});
  CHECK_THROWS_AS(middle->label(2), std::logic_error);

  const DatasetPtr picked = subset(middle, std::vector<int64_t>{1, 0, 1});
  CHECK(picked->size() == 3);
  CHECK(pixels_of(*picked, 2) == Bytes{20, 21, 22});
  CHECK(picked->label(1) == 1);

  CHECK(subset(four_images(), 4, 0)->size() == 0);
  CHECK_THROWS_AS(subset(four_images(), 3, 2), UsageError);
  CHECK_THROWS_AS(subset(four_images(), -1, 2), UsageError);
  CHECK_THROWS_AS(subset(four_images(), std::vector<int64_t>{4}), UsageError);
}

TEST_CASE("synthetic: one sequence, cut into splits that share no image") {
  const DatasetPtr whole = synthetic_dataset("whole", 0, 30, 3, 8, 12),
                   tail = synthetic_dataset("tail", 20, 10, 3, 8, 12);
  CHECK(whole->height() == 8);
  CHECK(whole->width() == 12);
  for (int64_t i = 0; i < 10; ++i) {
    CHECK(tail->label(i) == (20 + i) % 3);
    CHECK(pixels_of(*tail, i) == pixels_of(*whole, 20 + i));
    CHECK(pixels_of(*whole, i) != pixels_of(*whole, i + 3));  // the same class, other noise
  }
}

TEST_CASE("synthetic: an image is nearest to its own class's mean") {
  const int classes = 10;
  const DatasetPtr train = synthetic_dataset("train", 0, 200, classes, 8, 8);
  const DatasetPtr test = synthetic_dataset("test", 200, 100, classes, 8, 8);
  std::vector<std::vector<double>> means(classes, std::vector<double>(192));
  for (int64_t i = 0; i < train->size(); ++i) {
    const Bytes pixels = pixels_of(*train, i);
    auto& mean = means[static_cast<size_t>(train->label(i))];
    for (size_t j = 0; j < mean.size(); ++j) mean[j] += pixels[j] * classes / 200.0;
  }
  int right = 0;
  for (int64_t i = 0; i < test->size(); ++i) {
    const Bytes pixels = pixels_of(*test, i);
    std::vector<double> distances;
    for (const auto& mean : means) {
      double distance = 0;
      for (size_t j = 0; j < mean.size(); ++j) distance += (pixels[j] - mean[j]) * (pixels[j] - mean[j]);
      distances.push_back(distance);
    }
    right += std::ranges::min_element(distances) - distances.begin() == test->label(i);
  }
  CHECK(right == 100);
}

TEST_CASE("open_data: synthetic data fits itself to the model") {
  const DataSplits splits = open_data("synthetic:7", 0, {.height = 16, .width = 24});
  CHECK(splits.spec == "synthetic:7");
  CHECK(splits.augment.str() == "none");
  CHECK(splits.train->size() == 1024);
  CHECK(splits.test->size() == 256);
  CHECK(splits.test->classes() == 7);
  CHECK(splits.train->height() == 16);
  CHECK(splits.train->width() == 24);
  CHECK(open_data("synthetic").train->classes() == 10);
}

TEST_CASE("open_data: a limit takes the first images of each split") {
  const DataSplits all = open_data("synthetic"), some = open_data("synthetic", 300), few = open_data("synthetic", 5);
  CHECK(some.train->size() == 300);
  CHECK(some.test->size() == 256);
  CHECK(few.test->size() == 5);
  CHECK(pixels_of(*few.test, 4) == pixels_of(*all.test, 4));
  CHECK_THROWS_AS(open_data("synthetic", -1), UsageError);
}

TEST_CASE("open_data: wrong specs are refused with what is known") {
  CHECK_THROWS_WITH_AS(open_data("cifar11:x"), doctest::Contains("unknown data set: got cifar11"), UsageError);
  CHECK_THROWS_WITH_AS(open_data(""), doctest::Contains("expected one of fashion-mnist[:DIR]"), UsageError);
  CHECK_THROWS_WITH_AS(open_data("cifar100"), doctest::Contains("nothing follows the name: got cifar100"), UsageError);
  CHECK_THROWS_WITH_AS(open_data("imagefolder"), doctest::Contains("nothing follows the name: got imagefolder"),
                       UsageError);
  CHECK_THROWS_WITH_AS(open_data("imagefolder:no/such"), doctest::Contains("[no/such] cannot be read"), UsageError);
  CHECK_THROWS_WITH_AS(open_data("mnist"), doctest::Contains("nothing follows the name"), UsageError);
  CHECK_THROWS_WITH_AS(open_data("cifar10:"), doctest::Contains("nothing follows the name"), UsageError);
  CHECK_THROWS_WITH_AS(open_data("fashion-mnist:"), doctest::Contains("nothing follows the name"), UsageError);
  for (const char* classes : {"1", "1025", "-3", "ten", "10x", "99999999999"}) {
    CHECK_THROWS_WITH_AS(open_data(std::string("synthetic:") + classes), doctest::Contains("expected 2 to 1024"),
                         UsageError);
  }
  CHECK_THROWS_WITH_AS(open_data("cifar10:no/such"), doctest::Contains("no/such"), UsageError);
  CHECK_THROWS_WITH_AS(open_data("mnist:no/such"), doctest::Contains("no/such"), UsageError);
}

TEST_CASE("open_data: both names of the MNIST family read a folder of IDX pairs") {
  const std::string folder = scratch_folder();
  write_idx_pair(folder, "train", 1, 2, Bytes{1, 2, 3, 4}, Bytes{0, 9});
  write_idx_pair(folder, "t10k", 1, 2, Bytes{5, 6}, Bytes{3});
  const DataSplits digits = open_data("mnist:" + folder), clothes = open_data("fashion-mnist:" + folder);
  CHECK(digits.train->size() == 2);
  CHECK(digits.test->class_names()[3] == "3");
  CHECK(digits.augment.str() == "none");
  CHECK(clothes.test->class_names()[3] == "Dress");
  CHECK(clothes.test->label(0) == 3);
}

TEST_CASE("open_data: Debian's Fashion-MNIST") {
  if (!std::filesystem::exists("/usr/share/datasets/fashion-mnist")) SKIP("package dataset-fashion-mnist is missing");
  const DataSplits splits = open_data("fashion-mnist");
  CHECK(splits.train->size() == 60000);
  CHECK(splits.test->size() == 10000);
  CHECK(splits.train->height() == 28);
  CHECK(splits.train->label(0) == 9);  // an ankle boot, the first image of every introduction to this set
  CHECK(splits.train->class_names()[9] == "Ankle boot");
  double sum = 0;
  for (int64_t i = 0; i < 1000; ++i) {
    for (const uint8_t level : pixels_of(*splits.train, 60 * i)) sum += level / 255.0;
  }
  // 0.2860 is the mean over all training images that PyTorch users normalise with; 1,000 of them scatter by 0.003.
  CHECK(sum / (1000 * 28 * 28 * 3) == doctest::Approx(0.2860).epsilon(0.04));
}

TEST_CASE("open_data: the CIFAR-10 development data") {
  if (cifar10_folder().empty()) SKIP(missing_data());
  const DataSplits splits = open_data("cifar10:" + cifar10_folder(), 1000);
  CHECK(splits.augment.str() == "crop,flip");
  CHECK(splits.train->size() == 1000);
  CHECK(splits.test->size() == 1000);
  CHECK(splits.train->height() == 32);
}

}  // namespace parabola::dataset_test
