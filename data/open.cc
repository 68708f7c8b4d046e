#include "data/open.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "data/cifar.h"
#include "data/idx.h"
#include "data/image_folder.h"
#include "data/synthetic.h"
#include "engine/core/error.h"

namespace parabola {
namespace {

constexpr const char* known =
    "fashion-mnist[:DIR], mnist:DIR, cifar10:DIR, cifar100:DIR, imagefolder:DIR, synthetic[:CLASSES]";
constexpr const char* debian_fashion_mnist = "/usr/share/datasets/fashion-mnist";  // package dataset-fashion-mnist

constexpr Augmentation crop_and_flip = {.crop = true, .flip = true};

DataSplits open_mnist(const std::string& name, const std::string& folder, const std::vector<std::string>& class_names) {
  return {read_idx_pair(folder, "train", name + " train", class_names),
          read_idx_pair(folder, "t10k", name + " test", class_names)};
}

DataSplits open_synthetic(const std::string& argument, ImageSize size) {
  constexpr int train_images = 1024, test_images = 256;
  int classes = 10;
  if (!argument.empty()) {
    const char* end = argument.data() + argument.size();
    const auto [stop, code] = std::from_chars(argument.data(), end, classes);
    if (code != std::errc{} || stop != end || classes < 2 || classes > train_images) {
      fail<UsageError>("--data", "classes of synthetic: got ", printable(argument), ", expected 2 to ", train_images);
    }
  }
  const auto make = [&](const char* name, int first, int count) {
    return synthetic_dataset(name, first, count, classes, size.height, size.width);
  };
  return {make("synthetic train", 0, train_images), make("synthetic test", train_images, test_images)};
}

DataSplits open_whole(const std::string& spec, ImageSize synthetic_size) {
  const size_t colon = std::min(spec.find(':'), spec.size());
  const std::string name = spec.substr(0, colon), argument = spec.substr(std::min(colon + 1, spec.size()));
  const bool needs_folder = name == "mnist" || name == "cifar10" || name == "cifar100" || name == "imagefolder";
  if (argument.empty() && (needs_folder || colon < spec.size())) {
    fail<UsageError>("--data", "nothing follows the name: got ", printable(spec), ", expected one of ", known);
  }
  if (name == "fashion-mnist") {
    return open_mnist(
        name, argument.empty() ? debian_fashion_mnist : argument,
        {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"});
  }
  if (name == "mnist") return open_mnist(name, argument, {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"});
  if (name == "cifar10") return {read_cifar10_train(argument), read_cifar10_test(argument), crop_and_flip};
  if (name == "cifar100") return {read_cifar100_train(argument), read_cifar100_test(argument), crop_and_flip};
  if (name == "imagefolder") {
    ImageFolder read = read_image_folder(argument);
    return {std::move(read.train), std::move(read.test), crop_and_flip, {}, std::move(read.notes)};
  }
  if (name == "synthetic") return open_synthetic(argument, synthetic_size);
  fail<UsageError>("--data", "unknown data set: got ", printable(name), ", expected one of ", known);
}

DatasetPtr first_images(const DatasetPtr& dataset, int64_t limit) {
  return limit == 0 || limit >= dataset->size() ? dataset : subset(dataset, 0, limit);
}

}  // namespace

DataSplits open_data(const std::string& spec, int64_t limit, ImageSize synthetic_size) {
  if (limit < 0) fail<UsageError>("--limit", "got ", limit, ", expected a positive number of images");
  DataSplits splits = open_whole(spec, synthetic_size);
  splits.spec = spec;
  const bool both = splits.train == splits.test;
  splits.train = first_images(splits.train, limit);
  splits.test = both ? splits.train : first_images(splits.test, limit);
  return splits;
}

}  // namespace parabola
