// Every augmentation against a naive reference or what defines it, their odds, and --augment.
#include "data/augment.h"

#include <cmath>
#include <map>

#include "engine/core/error.h"
#include "tests/support/test.h"

namespace parabola::augment_test {
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
  Random draws = augmentation_draws(seed, epoch, number);
  augment(how, draws, out, spare);
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

TEST_CASE("augment: as the flag writes it") {
  CHECK(Augmentation{}.str() == "none");
  CHECK(Augmentation{.crop = true, .flip = true}.str() == "crop,flip");
  CHECK(Augmentation{.flip = true, .cutout = true, .cutmix = true}.str() == "flip,cutout,cutmix");
}

TEST_CASE("augment: rrc shows windows of every size, enlarged") {
  // Two ramps: what an output pixel holds says where it was.
  Image image{.height = 32, .width = 32, .rgb = {}};
  for (int y = 0; y < 32; ++y)
    for (int x = 0; x < 32; ++x)
      for (const int value : {8 * y, 8 * x, 100}) image.rgb.push_back(static_cast<uint8_t>(value));
  double least = 1e9, most = 0, least_ratio = 1e9, most_ratio = 0;
  for (int i = 0; i < 300; ++i) {
    const Image out = changed({.rrc = true}, image, 3, 1, i);
    REQUIRE(out.rgb.size() == image.rgb.size());
    CHECK(out.rgb == changed({.rrc = true}, image, 3, 1, i).rgb);
    const auto at = [&](int y, int x, int channel) -> int {
      return out.rgb[static_cast<size_t>(3 * (32 * y + x) + channel)];
    };
    // Far from the window's edges the result is the ramp, seen closer: 8 levels an input pixel.
    const double height = (at(28, 16, 0) - at(4, 16, 0)) / 8.0 / 24 * 32,
                 width = (at(16, 28, 1) - at(16, 4, 1)) / 8.0 / 24 * 32;
    CHECK(at(16, 16, 2) == 100);
    CHECK(at(16, 3, 0) == at(16, 29, 0));
    const double share = height * width / 1024, ratio = width / height;
    least = std::min(least, share), most = std::max(most, share);
    least_ratio = std::min(least_ratio, ratio), most_ratio = std::max(most_ratio, ratio);
  }
  CHECK(least > 0.17);  // 0.2 but for whole pixels and levels
  CHECK(least < 0.25);
  CHECK(most > 0.9);
  CHECK(most < 1.04);
  CHECK(least_ratio > 0.7);
  CHECK(least_ratio < 0.8);
  CHECK(most_ratio > 1.25);
  CHECK(most_ratio < 1.43);
  // Larger images may lose more, and those that are no square keep their size.
  const Image large = picture(64, 80), out = changed({.rrc = true}, large, 3, 1, 0);
  CHECK(out.height == 64);
  CHECK(out.width == 80);
  CHECK(changed({.rrc = true}, picture(1, 1), 3, 1, 0).rgb == picture(1, 1).rgb);
}

TEST_CASE("augment: jitter keeps a grey picture grey, black black, and moves the mean up and down") {
  Image gray{.height = 4, .width = 4, .rgb = {}}, black = gray, red = gray;
  for (int i = 0; i < 16; ++i)
    for (int channel = 0; channel < 3; ++channel) {
      gray.rgb.push_back(static_cast<uint8_t>(100));
      black.rgb.push_back(0);
      red.rgb.push_back(channel == 0 ? 200 : 50);
    }
  int least = 255, most = 0, faint = 0, strong = 0;
  for (int i = 0; i < 200; ++i) {
    const Image out = changed({.jitter = true}, gray, 1, 0, i);
    for (const uint8_t value : out.rgb) CHECK(value == out.rgb[0]);
    least = std::min<int>(least, out.rgb[0]), most = std::max<int>(most, out.rgb[0]);
    CHECK(changed({.jitter = true}, black, 1, 0, i).rgb == black.rgb);
    const Image coloured = changed({.jitter = true}, red, 1, 0, i);
    const double ratio = (coloured.rgb[0] + 1.0) / (coloured.rgb[1] + 1.0);
    faint += ratio<3, strong += ratio> 5;
  }
  CHECK(least >= 60);  // one colour: contrast and saturation change nothing
  CHECK(least < 65);
  CHECK(most > 135);
  CHECK(most <= 140);
  CHECK(faint > 20);
  CHECK(strong > 20);
}

TEST_CASE("augment: cutout zeroes a square of half the side, cut off at the edges") {
  const Shape shape{8, 10, 2};
  std::map<size_t, int> sizes;
  for (int i = 0; i < 2000; ++i) {
    std::vector<float> image(160, 1.0f);
    Random draws = augmentation_draws(1, 0, i);
    cut_out({.cutout = true}, draws, shape, image);
    int top = 8, left = 10, bottom = -1, right = -1;
    size_t zeros = 0;
    for (int y = 0; y < 8; ++y)
      for (int x = 0; x < 10; ++x) {
        const float* pixel = &image[static_cast<size_t>(2 * (10 * y + x))];
        if (pixel[0] != pixel[1]) FAIL("a channel was left");
        if (pixel[0] != 0) continue;
        ++zeros;
        top = std::min(top, y), left = std::min(left, x), bottom = std::max(bottom, y), right = std::max(right, x);
      }
    CHECK(zeros == static_cast<size_t>((bottom - top + 1) * (right - left + 1)));  // a rectangle
    CHECK(bottom - top < 4);
    CHECK(right - left < 4);
    ++sizes[zeros];
  }
  CHECK(sizes.rbegin()->first == 16);
  CHECK(sizes.begin()->first == 4);  // in one corner, where one draw in 80 falls
  std::vector<float> image(160, 1.0f);
  Random draws = augmentation_draws(1, 0, 0);
  cut_out({}, draws, shape, image);
  CHECK(image == std::vector<float>(160, 1.0f));
}

TEST_CASE("augment: mixup and cutmix mix each image with the one before, by one share a batch") {
  const Shape shape{3, 6, 4, 2};
  std::vector<float> batch(3 * 48);
  for (size_t i = 0; i < batch.size(); ++i) {
    const size_t image = i / 48, value = i % 48;
    batch[i] = static_cast<float>(100 * image + value);
  }
  int pasted = 0, averaged = 0;
  double shares = 0, squares = 0;
  for (int i = 0; i < 600; ++i) {
    const Augmentation how{.mixup = i % 3 != 1, .cutmix = i % 3 != 0};
    std::vector<float> mixed = batch;
    const double own = mix(how, mixing_draws(4, 2, i), shape, mixed);
    CHECK(own >= 0);
    CHECK(own <= 1);
    size_t kept = 0, taken = 0;
    for (size_t j = 0; j < mixed.size(); ++j) {
      const float other = batch[(j + 96) % 144];
      kept += mixed[j] == batch[j], taken += mixed[j] == other;
      if (i % 3 == 0) CHECK(mixed[j] == doctest::Approx(own * batch[j] + (1 - own) * other).epsilon(1e-5));
    }
    const bool is_paste = kept + taken == mixed.size();
    if (i % 3 == 1) CHECK(is_paste);
    if (is_paste && i % 3) CHECK(static_cast<double>(kept) == doctest::Approx(own * 144));
    if (i % 3 == 2) ++(is_paste ? pasted : averaged);
    if (i % 3 == 0) shares += own, squares += own * own;
  }
  CHECK(pasted > 60);  // of 200, by one half; 5 standard deviations
  CHECK(averaged > 60);
  // Beta(0.2, 0.2): mean 1/2, variance 1/4 / 1.4
  CHECK(shares / 200 == doctest::Approx(0.5).epsilon(0.25));
  CHECK(squares / 200 - std::pow(shares / 200, 2) == doctest::Approx(0.25 / 1.4).epsilon(0.15));
  std::vector<float> one(48, 1.0f);
  CHECK(mix({.mixup = true}, mixing_draws(4, 2, 0), {1, 6, 4, 2}, one) == 1);
  CHECK(mix({}, mixing_draws(4, 2, 0), shape, batch) == 1);
}

}  // namespace parabola::augment_test
