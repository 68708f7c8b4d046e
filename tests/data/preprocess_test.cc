// Preprocessing: numbers checked by hand, and the text that goes into weights files.
#include "data/preprocess.h"

#include <algorithm>

#include "engine/core/error.h"
#include "tests/support/test.h"

namespace parabola::preprocess_test {
namespace {

std::vector<float> run(const Image& image, const Preprocessing& how) {
  std::vector<float> out(static_cast<size_t>(how.height) * static_cast<size_t>(how.width) *
                         static_cast<size_t>(how.channels()));
  preprocess(image, how, out.data());
  return out;
}

const Image two_pixels{.height = 1, .width = 2, .rgb = {0, 51, 255, 102, 204, 153}};

}  // namespace

TEST_CASE("preprocess: scale, mean and spread of each channel") {
  const Preprocessing how{.height = 1, .width = 2, .mean = {0.5f, 0.25f, 0}, .std = {0.5f, 0.25f, 2}};
  const std::vector<float> out = run(two_pixels, how);
  // Levels over 255: 0, .2, 1 and .4, .8, .6.
  const std::vector<float> expected = {-1, -0.2f, 0.5f, -0.2f, 2.2f, 0.3f};
  REQUIRE(out.size() == expected.size());
  for (size_t i = 0; i < out.size(); ++i) CHECK(out[i] == doctest::Approx(expected[i]).epsilon(1e-6));
}

TEST_CASE("preprocess: blue, green, red and levels from 0 to 255, as Caffe's networks take them") {
  const Preprocessing how{
      .height = 1, .width = 2, .order = Preprocessing::Channels::bgr, .mean = {104, 117, 123}, .scale = 1};
  CHECK(run(two_pixels, how) == std::vector<float>{255 - 104, 51 - 117, 0 - 123, 153 - 104, 204 - 117, 102 - 123});
}

TEST_CASE("preprocess: gray is Pillow's") {
  const Preprocessing how{.height = 1, .width = 2, .order = Preprocessing::Channels::gray, .scale = 1};
  // .299 R + .587 G + .114 B = 59.007 and 167.688
  CHECK(run(two_pixels, how) == std::vector<float>{59, 168});
  for (int level = 0; level < 256; ++level) {
    const auto byte = static_cast<uint8_t>(level);
    const Image grey{.height = 1, .width = 1, .rgb = {byte, byte, byte}};
    CHECK(run(grey, {.height = 1, .width = 1, .order = Preprocessing::Channels::gray, .scale = 1})[0] == level);
  }
}

TEST_CASE("preprocess: the same floats as PyTorch's division by 255") {
  for (int level = 0; level < 256; ++level) {
    const auto byte = static_cast<uint8_t>(level);
    const Image image{.height = 1, .width = 1, .rgb = {byte, byte, byte}};
    const Preprocessing how{.height = 1, .width = 1, .mean = {0.485f, 0.456f, 0.406f}, .std = {0.229f, 0.224f, 0.225f}};
    const float unit = static_cast<float>(level) / 255.0f;
    CHECK(run(image, how) ==
          std::vector<float>{(unit - 0.485f) / 0.229f, (unit - 0.456f) / 0.224f, (unit - 0.406f) / 0.225f});
  }
}

TEST_CASE("preprocess: an image of another size is refused") {
  float out[6];
  CHECK_THROWS_WITH_AS(preprocess(two_pixels, {.height = 2, .width = 1}, out),
                       doctest::Contains("got 1x2, expected the model's 2x1"), UsageError);
}

TEST_CASE("preprocess: its text in a weights file is exact") {
  const Preprocessing resnet{.mean = {0.485f, 0.456f, 0.406f}, .std = {0.229f, 0.224f, 0.225f}};
  CHECK(resnet.str() ==
        "{\"height\":32,\"width\":32,\"channels\":\"rgb\",\"mean\":[0.485,0.456,0.406],\"std\":[0.229,0.224,0.225],"
        "\"scale\":0.00392156862745098}");
  const Preprocessing odd{.height = 227,
                          .width = 28,
                          .order = Preprocessing::Channels::bgr,
                          .mean = {1e-30f, -1.0f / 3, 16777216},
                          .std = {1e30f, 0.1f, 1},
                          .scale = 1.0 / 3};
  const Preprocessing mnist{.height = 28, .width = 28, .order = Preprocessing::Channels::gray};
  const Preprocessing cut{.height = 227, .width = 224, .resize = 256};
  CHECK(cut.str().starts_with("{\"height\":227,\"width\":224,\"resize\":256,\"channels\""));
  for (const Preprocessing& how : {resnet, odd, mnist, cut}) CHECK(Preprocessing::parse(how.str()) == how);
  CHECK(Preprocessing::parse(" { \"scale\" : 1, \"std\":[1,2e0,3.0], \"mean\":[0,-0.5,1E-2],\n\"channels\":\"bgr\", "
                             "\"width\":5,\"height\":4}") == Preprocessing{.height = 4,
                                                                           .width = 5,
                                                                           .order = Preprocessing::Channels::bgr,
                                                                           .mean = {0, -0.5f, 0.01f},
                                                                           .std = {1, 2, 3},
                                                                           .scale = 1});
}

TEST_CASE("preprocess: text that cannot be is refused") {
  const std::string good = Preprocessing{}.str();
  CHECK_NOTHROW(Preprocessing::parse(good));
  const auto with = [&](const std::string& part, const std::string& other) {
    std::string text = good;
    REQUIRE(text.find(part) != std::string::npos);
    return text.replace(text.find(part), part.size(), other);
  };
  const std::vector<std::string> bad = {
      "",
      "{}",
      "[]",
      "null",
      "3",
      good + "x",
      good.substr(0, good.size() - 1),
      with("\"height\":32", "\"height\":0"),
      with("\"height\":32", "\"height\":3.5"),
      with("\"height\":32", "\"height\":\"32\""),
      with("\"height\":32", "\"height\":70000"),
      with("\"height\":32", "\"height\":99999999999"),
      with("\"height\":32,", ""),
      with("\"height\":32", "\"height\":32,\"height\":32"),
      with("\"height\":32", "\"height\":{\"a\":1}"),
      with("\"height\":32", "\"height\":null"),
      with("\"rgb\"", "\"cmyk\""),
      with("\"rgb\"", "3"),
      with("[0,0,0]", "[0,0]"),
      with("[0,0,0]", "[0,0,0,0]"),
      with("[0,0,0]", "[0,0,\"0\"]"),
      with("[0,0,0]", "[[0,0,0]]"),
      with("[0,0,0]", "[0,0,1e99]"),
      with("[1,1,1]", "[1,0,1]"),
      with("[1,1,1]", "[1,1,-1]"),
      with("\"scale\":0", "\"scale\":-0"),
      with("\"scale\":0", "\"filter\":\"bicubic\",\"scale\":0"),
      with("\"scale\":0", "\"resize\":31,\"scale\":0"),
      with("\"scale\":0", "\"resize\":0,\"scale\":0"),
      with("\"scale\":0", "\"resize\":\"256\",\"scale\":0"),
  };
  for (const std::string& text : bad) {
    CAPTURE(text);
    CHECK_THROWS_AS(Preprocessing::parse(text), FormatError);
  }
}

}  // namespace parabola::preprocess_test
