// Resizing against Pillow's results (tests/golden/make_images.py) and against its definition.
#include "data/resize.h"

#include <algorithm>
#include <cstdlib>

#include "data/preprocess.h"
#include "engine/core/error.h"
#include "engine/io/safetensors.h"
#include "tests/support/test.h"

namespace parabola::resize_test {
namespace {

Image load(const Safetensors& file, const std::string& name) {
  const TensorEntry* entry = file.find(name);
  REQUIRE_MESSAGE(entry, name);
  Image image{static_cast<int>(entry->shape[0]), static_cast<int>(entry->shape[1]), {}};
  image.rgb.resize(entry->end - entry->begin);
  file.read(*entry, DType::u8, reinterpret_cast<std::byte*>(image.rgb.data()), image.rgb.size());
  return image;
}

Image resized(const Image& in, int height, int width) {
  Image out;
  resize(in, height, width, {0, 0, height, width}, out);
  return out;
}

Image picture(int height, int width) {
  Image image{height, width, {}};
  for (int i = 0; i < 3 * height * width; ++i) image.rgb.push_back(static_cast<uint8_t>(i * i * 7 + i));
  return image;
}

}  // namespace

TEST_CASE("resize: Pillow's levels, growing and shrinking, odd sizes") {
  const Safetensors file("tests/golden/images.safetensors");
  int cases = 0, unequal = 0;
  for (; file.find(concat("resize/", cases, "/in")); ++cases) {
    CAPTURE(cases);
    const Image expected = load(file, concat("resize/", cases, "/out"));
    const Image got = resized(load(file, concat("resize/", cases, "/in")), expected.height, expected.width);
    REQUIRE(got.rgb.size() == expected.rgb.size());
    for (size_t i = 0; i < got.rgb.size(); ++i) {
      const int off = std::abs(got.rgb[i] - expected.rgb[i]);
      CHECK(off <= 1);
      unequal += off > 0;
    }
  }
  CHECK(cases == 10);
  CHECK(unequal == 0);  // found so: the rounding is Pillow's
}

TEST_CASE("resize: by the definition") {
  const Image two{1, 2, {0, 100, 200, 100, 0, 255}};
  // Twice as many: the middles of outputs lie a quarter and three quarters between those of the inputs.
  CHECK(resized(two, 1, 4).rgb == std::vector<uint8_t>{0, 100, 200, 25, 75, 214, 75, 25, 241, 100, 0, 255});
  CHECK(resized(two, 1, 1).rgb == std::vector<uint8_t>{50, 50, 228});  // 227.5
  const Image any = picture(9, 7);
  CHECK(resized(any, 9, 7).rgb == any.rgb);
  const Image flat{5, 6, std::vector<uint8_t>(90, 201)};
  for (const int side : {1, 3, 4, 11})
    CHECK(resized(flat, side, side + 1).rgb == std::vector<uint8_t>(3 * side * (side + 1), 201));
}

TEST_CASE("resize: a window is what the whole has there") {
  const Image in = picture(20, 31), whole = resized(in, 13, 40);
  Image part;
  resize(in, 13, 40, {2, 5, 7, 30}, part);
  CHECK(part.height == 7);
  CHECK(part.width == 30);
  for (int y = 0; y < 7; ++y) {
    const auto row = whole.rgb.begin() + 3 * ((y + 2) * 40 + 5);
    CHECK(std::equal(row, row + 90, part.rgb.begin() + 90 * y));
  }
}

TEST_CASE("fit: the shorter side, then the middle") {
  const auto fitted = [](Image image, const Preprocessing& how) {
    Image spare;
    fit(how, image, spare);
    return image;
  };
  const Image wide = picture(10, 25);
  // Shorter side 8, hence 8x20; the window of 6x7 has margins of 1 and 6.5, which rounds to 6.
  Image expected;
  resize(wide, 8, 20, {1, 6, 6, 7}, expected);
  CHECK(fitted(wide, {.height = 6, .width = 7, .resize = 8}).rgb == expected.rgb);
  // 25x10 and 8: 20x8; a margin of 7.5 rounds to 8.
  const Image tall = picture(25, 10);
  resize(tall, 20, 8, {8, 1, 5, 6}, expected);
  CHECK(fitted(tall, {.height = 5, .width = 6, .resize = 8}).rgb == expected.rgb);
  // Without: all of it.
  CHECK(fitted(wide, {.height = 6, .width = 7}).rgb == resized(wide, 6, 7).rgb);
  CHECK(fitted(wide, {.height = 10, .width = 25}).rgb == wide.rgb);
  // Of an image of 1 x 60,000 only the window is ever made.
  const Image thin = fitted(picture(1, 60000), {.height = 224, .width = 224, .resize = 256});
  CHECK(thin.height == 224);
  CHECK(thin.width == 224);
}

}  // namespace parabola::resize_test
