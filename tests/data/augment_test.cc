// Crop and flip against a naive reference, their odds, and --augment.
#include "data/augment.h"

#include <map>

#include "engine/core/error.h"
#include "tests/support/test.h"

namespace parabola {
namespace {

// An image of which no two pixels are equal.
Image picture(int height, int width) {
  Image image{.height = height, .width = width, .rgb = {}};
  for (int i = 0; i < height * width; ++i) {
    for (const int level : {i + 1, i / 200, 7}) image.rgb.push_back(static_cast<uint8_t>(level));
  }
  return image;
}

// The definition: pads by 4 on each side, takes the window at (top, left), mirrors it.
std::vector<uint8_t> reference(const Image& in, int top, int left, bool mirrored) {
  std::vector<uint8_t> out;
  for (int y = 0; y < in.height; ++y) {
    for (int x = 0; x < in.width; ++x) {
      const int row = y + top - 4, column = (mirrored ? in.width - 1 - x : x) + left - 4;
      const bool inside = row >= 0 && row < in.height && column >= 0 && column < in.width;
      const auto first = static_cast<size_t>(inside ? 3 * (row * in.width + column) : 0);
      for (size_t channel = 0; channel < 3; ++channel) out.push_back(inside ? in.rgb[first + channel] : uint8_t{0});
    }
  }
  return out;
}

Image changed(const Augmentation& how, const Image& image, uint64_t seed, int64_t epoch, int64_t number) {
  Image out = image, spare;
  augment(how, augmentation_draws(seed, epoch, number), out, spare);
  return out;
}

}  // namespace

TEST_CASE("augment: every result is a padded window, and each of the 162 comes") {
  const Image image = picture(10, 12);
  const auto key = [](const std::vector<uint8_t>& bytes) { return std::string(bytes.begin(), bytes.end()); };
  std::map<std::string, int> windows;
  for (int top = 0; top <= 8; ++top) {
    for (int left = 0; left <= 8; ++left) {
      for (const bool mirrored : {false, true}) windows[key(reference(image, top, left, mirrored))] = 0;
    }
  }
  REQUIRE(windows.size() == 162);
  const int draws = 16200;
  for (int i = 0; i < draws; ++i) {
    const Image out = changed({.crop = true, .flip = true}, image, 1, 0, i);
    const auto found = windows.find(key(out.rgb));
    REQUIRE(found != windows.end());
    ++found->second;
  }
  for (const auto& [window, count] : windows) {
    CHECK(count > 40);  // of 100 expected; 6 standard deviations
    CHECK(count < 160);
  }
}

TEST_CASE("augment: images smaller than the padding") {
  for (const int side : {1, 2, 4}) {
    const Image image = picture(side, side);
    for (int i = 0; i < 200; ++i) {
      Random draws = augmentation_draws(5, 0, i);
      const int top = static_cast<int>(draws.below(9)), left = static_cast<int>(draws.below(9));
      CHECK(changed({.crop = true}, image, 5, 0, i).rgb == reference(image, top, left, false));
    }
  }
}

TEST_CASE("augment: without crop and flip nothing changes, with flip alone half of the images") {
  const Image image = picture(3, 5);
  int mirrored = 0;
  for (int i = 0; i < 1000; ++i) {
    CHECK(changed({}, image, 1, 0, i).rgb == image.rgb);
    mirrored += changed({.flip = true}, image, 1, 0, i).rgb == reference(image, 4, 4, true);
  }
  CHECK(mirrored > 400);  // 500 expected; 6 standard deviations
  CHECK(mirrored < 600);
}

TEST_CASE("augment: draws depend on seed, epoch and image alone") {
  const Image image = picture(16, 16);
  const Augmentation how{.crop = true, .flip = true};
  CHECK(changed(how, image, 1, 2, 3).rgb == changed(how, image, 1, 2, 3).rgb);
  int same_seed = 0, same_epoch = 0, same_image = 0;
  for (int i = 0; i < 100; ++i) {
    const Image out = changed(how, image, 1, 2, i);
    same_seed += out.rgb == changed(how, image, 9, 2, i).rgb;
    same_epoch += out.rgb == changed(how, image, 1, 3, i).rgb;
    same_image += out.rgb == changed(how, image, 1, 2, i + 1).rgb;
  }
  for (const int same : {same_seed, same_epoch, same_image}) CHECK(same < 10);  // 1 of 162 is equal by chance
}

TEST_CASE("augment: --augment's list") {
  CHECK(parse_augmentation("none") == Augmentation{});
  CHECK(parse_augmentation("crop") == Augmentation{.crop = true});
  CHECK(parse_augmentation("flip") == Augmentation{.flip = true});
  CHECK(parse_augmentation("flip,crop") == Augmentation{.crop = true, .flip = true});
  for (const char* list : {"none", "crop", "flip", "crop,flip"}) CHECK(parse_augmentation(list).str() == list);
  for (const char* list : {"", "crop,", ",crop", "crop flip", "Crop", "none,crop", "crop,none", "blur"}) {
    CAPTURE(list);
    CHECK_THROWS_WITH_AS(parse_augmentation(list), doctest::Contains("expected some of crop,flip, or none"),
                         UsageError);
  }
  for (const char* list : {"rrc", "crop,cutout", "mixup", "flip,cutmix"}) {
    CAPTURE(list);
    CHECK_THROWS_WITH_AS(parse_augmentation(list), doctest::Contains("is not built yet"), UsageError);
  }
}

}  // namespace parabola
