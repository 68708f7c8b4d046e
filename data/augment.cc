#include "data/augment.h"

#include <algorithm>
#include <utility>

#include "engine/core/error.h"

namespace parabola {
namespace {

constexpr int padding = 4;  // the CIFAR nets' recipe since He and others, "Deep residual learning", 2016, section 4.2

// out[y, x] = in[y + down, x + right], black where that lies outside of the image.
void shift(const Image& in, int down, int right, Image& out) {
  out.height = in.height;
  out.width = in.width;
  out.rgb.assign(in.rgb.size(), 0);
  const int first = std::max(0, -right), last = std::min(in.width, in.width - right);
  for (int y = std::max(0, -down); y < std::min(in.height, in.height - down) && first < last; ++y) {
    const auto source = in.rgb.begin() + 3 * (std::ptrdiff_t{y + down} * in.width + first + right);
    const auto target = out.rgb.begin() + 3 * (std::ptrdiff_t{y} * in.width + first);
    std::copy_n(source, 3 * (last - first), target);
  }
}

void mirror(Image& image) {
  for (int y = 0; y < image.height; ++y) {
    uint8_t* row = image.rgb.data() + 3 * (std::ptrdiff_t{y} * image.width);
    for (int left = 0, right = image.width - 1; left < right; ++left, --right) {
      std::swap_ranges(row + 3 * left, row + 3 * left + 3, row + 3 * right);
    }
  }
}

}  // namespace

std::string Augmentation::str() const {
  if (crop && flip) return "crop,flip";
  return crop ? "crop" : flip ? "flip" : "none";
}

Augmentation parse_augmentation(std::string_view list) {
  constexpr std::string_view not_built[] = {"rrc", "cutout", "mixup", "cutmix"};
  Augmentation how;
  if (list == "none") return how;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const std::string_view name = list.substr(begin, end - begin);
    begin = end + 1;
    if (name == "crop") {
      how.crop = true;
    } else if (name == "flip") {
      how.flip = true;
    } else if (std::ranges::find(not_built, name) != std::end(not_built)) {
      fail<UsageError>("--augment", name, " is not built yet: expected some of crop,flip, or none");
    } else {
      fail<UsageError>("--augment", "got '", printable(name), "', expected some of crop,flip, or none");
    }
  }
  return how;
}

Random augmentation_draws(uint64_t seed, int64_t epoch, int64_t image) {
  return Random({.seed = seed,
                 .stream = Stream::augmentation,
                 .step = static_cast<uint64_t>(epoch),
                 .item = static_cast<uint32_t>(image)});
}

void augment(const Augmentation& how, Random draws, Image& image, Image& spare) {
  if (how.crop) {
    const auto offset = [&] { return static_cast<int>(draws.below(2 * padding + 1)) - padding; };
    const int down = offset(), right = offset();
    shift(image, down, right, spare);
    std::swap(image, spare);
  }
  if (how.flip && draws.word() >> 31) mirror(image);
}

}  // namespace parabola
