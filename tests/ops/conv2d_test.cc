#include "engine/ops/conv2d/conv2d.h"

#include "engine/ops/conv2d/convolve.h"
#include "engine/ops/conv2d/winograd.h"
#include "tests/ops/conv_reference.h"
#include "tests/support/test.h"

namespace parabola::conv2d_test {

using namespace test;

namespace {

struct Case {
  const char* name;
  Shape x, weight;
  ConvAttributes attributes;
  bool bias = true, x_frozen = false, weight_frozen = false;
};

void check(const Case& c) {
  const ConvGeometry g = conv_geometry("test", c.x, c.weight, c.attributes);
  check_op({.name = c.name,
            .op = &conv2d_op,
            .inputs = {{.shape = c.x, .gradient = !c.x_frozen},
                       {.shape = c.weight, .gradient = !c.weight_frozen},
                       {.shape = {g.K}, .absent = !c.bias}},
            .attributes = c.attributes,
            .reference =
                [g](const std::vector<Array>& in) { return std::vector<Array>{naive_conv2d(g, in[0], in[1], in[2])}; },
            .max_differences = 15});
}

}  // namespace

TEST_CASE("conv2d") {
  check({"3x3, padded", {2, 5, 6, 3}, {4, 3, 3, 3}, {.padding = 1}});
  check({"one of everything", {1, 1, 1, 1}, {1, 1, 1, 1}, {}});
  check({"1x1: no columns", {3, 4, 5, 7}, {5, 1, 1, 7}, {}});
  check({"1x1, stride 2: phases without a tap", {2, 5, 4, 3}, {2, 1, 1, 3}, {.stride = 2}, false});
  check({"stride 2", {2, 7, 8, 3}, {5, 3, 3, 3}, {.stride = 2, .padding = 1}});
  check({"dilation 2", {1, 9, 8, 2}, {3, 3, 2, 2}, {.padding = 2, .dilation = 2}});
  check({"groups 2", {2, 4, 5, 6}, {4, 3, 3, 3}, {.padding = 1, .groups = 2}});
  check({"stride 2, dilation 2, groups 2", {2, 9, 8, 4}, {6, 3, 3, 2}, {2, 1, 2, 2}});
  check({"stride 3, dilation 2", {1, 11, 10, 2}, {2, 3, 4, 2}, {.stride = 3, .padding = 2, .dilation = 2}});
  check({"stride 4, dilation 6", {1, 15, 14, 1}, {2, 2, 3, 1}, {.stride = 4, .padding = 3, .dilation = 6}});
  check({"patches that fill the image", {2, 8, 12, 3}, {4, 4, 4, 3}, {.stride = 4}});
  check({"several tiles of patches", {3, 20, 20, 1}, {2, 2, 2, 1}, {.stride = 2}});
  check({"patches without overlap, a rest", {2, 9, 8, 3}, {4, 4, 4, 3}, {.stride = 4}});
  check({"kernel larger than the image", {2, 2, 3, 2}, {3, 5, 5, 2}, {.padding = 2}});
  check({"depthwise by groups", {1, 5, 4, 17}, {17, 3, 3, 1}, {.padding = 1, .groups = 17}});
  check({"parts of an image", {2, 19, 17, 2}, {3, 3, 3, 2}, {.padding = 1}});
  check({"parts of an image, stride beyond the kernel", {1, 40, 21, 4}, {2, 2, 2, 4}, {.stride = 3}});
  check({"parts of an image, stride 2, dilation 3, groups 2", {2, 33, 20, 4}, {4, 3, 3, 2}, {2, 2, 3, 2}});
  check({"rows longer than a tile", {1, 3, 301, 2}, {3, 3, 3, 2}, {.padding = 1}});
  check({"rows longer than a tile, stride 2, dilation 2", {1, 5, 530, 1}, {2, 3, 3, 1}, {2, 2, 2, 1}});
  check({"one long row", {1, 1, 2600, 2}, {3, 1, 3, 2}, {}});
  check({"a long row among few", {1, 2, 1500, 1}, {2, 3, 3, 1}, {.padding = 1}});
  check({"taps far apart", {1, 41, 13, 3}, {2, 3, 3, 3}, {.padding = 12, .dilation = 12}});
  check({"more channels than the kernel's inner block", {1, 4, 3, 300}, {2, 3, 3, 300}, {.padding = 1}});
  check({"images that share tiles, the last one not full", {37, 4, 3, 2}, {3, 3, 3, 2}, {.padding = 1}});
  check({"weight frozen", {2, 4, 4, 3}, {2, 3, 3, 3}, {.padding = 1}, true, false, true});
  check({"input frozen", {2, 4, 4, 3}, {2, 3, 3, 3}, {.padding = 1}, false, true});
  check({"no images", {0, 4, 4, 3}, {2, 3, 3, 3}, {}});
}

TEST_CASE("conv2d: by tiles of patches") {
  check({"16 outputs, several tiles", {2, 12, 13, 8}, {16, 3, 3, 8}, {.padding = 1}});
  check({"17 outputs, a tile of one block", {1, 5, 6, 16}, {17, 3, 3, 16}, {.padding = 1}, false});
  check({"32 outputs, several tiles", {3, 9, 7, 12}, {32, 3, 3, 12}, {.padding = 1}});
  check({"64 outputs, several tiles", {1, 12, 12, 36}, {64, 3, 3, 36}, {.padding = 1}});
  check({"65 outputs", {1, 5, 4, 20}, {65, 3, 2, 20}, {.padding = 1}});
  check({"stride 2, from 16 to 32", {2, 9, 10, 16}, {32, 3, 3, 16}, {.stride = 2, .padding = 1}});
  check({"1x1, stride 2", {3, 8, 8, 8}, {16, 1, 1, 8}, {.stride = 2}});
  check({"1x1, padded", {2, 4, 5, 4}, {8, 1, 1, 4}, {.padding = 1}});
  check({"stride 3, more phases than one launch takes", {1, 11, 10, 4}, {8, 4, 4, 4}, {.stride = 3, .padding = 1}});
  check({"stride 2, dilation 3", {1, 12, 13, 4}, {4, 3, 3, 4}, {.stride = 2, .padding = 2, .dilation = 3}});
  check({"groups 2 of 4 channels", {2, 6, 5, 8}, {8, 3, 3, 4}, {.padding = 1, .groups = 2}});
  check({"groups 3 of 40 outputs", {1, 6, 5, 6}, {120, 3, 3, 2}, {.padding = 1, .groups = 3}});
  check({"patches of seven rows", {1, 14, 15, 3}, {16, 7, 7, 3}, {.stride = 2, .padding = 3}});
  check({"as many pixels as two parts and a rest", {1, 10, 10, 4}, {4, 3, 3, 4}, {.padding = 1}});
}

TEST_CASE("conv2d: by Winograd's algorithm") {
  check({"even sides", {2, 6, 4, 16}, {16, 3, 3, 16}, {.padding = 1}});
  check({"odd sides", {2, 5, 7, 16}, {32, 3, 3, 16}, {.padding = 1}, false});
  check({"no padding", {1, 7, 6, 32}, {16, 3, 3, 32}, {}});
  check({"padding 2", {1, 4, 5, 16}, {16, 3, 3, 16}, {.padding = 2}});
  check({"several chunks of channels", {1, 4, 4, 80}, {96, 3, 3, 80}, {.padding = 1}});
  check({"images that share tiles, the last one not full", {12, 5, 5, 16}, {16, 3, 3, 16}, {.padding = 1}});
  check({"parts of an image", {1, 19, 21, 16}, {16, 3, 3, 16}, {.padding = 1}});
  check({"rows of windows longer than other tiles", {2, 5, 138, 16}, {16, 3, 3, 16}, {.padding = 1}});
  check({"rows as long as may be", {1, 4, 1024, 16}, {16, 3, 3, 16}, {.padding = 1}});
  check({"inputs with longer rows: not this way", {1, 6, 1026, 16}, {16, 3, 3, 16}, {}});
  check({"inputs smaller than a window: not this way", {2, 2, 3, 16}, {16, 3, 3, 16}, {.padding = 2}});
  check({"weight frozen", {2, 4, 4, 16}, {16, 3, 3, 16}, {.padding = 1}, true, false, true});
  check({"input frozen", {2, 4, 4, 16}, {16, 3, 3, 16}, {.padding = 1}, false, true});
}

TEST_CASE("conv2d: how long rows go by Winograd's algorithm") {
  const auto applies = [](int64_t columns, int64_t inputs, int64_t outputs) {
    return winograd::applies(
        conv_geometry("test", Shape{1, 8, columns, inputs}, outputs, 3, 3, ConvAttributes{.padding = 1}));
  };
  CHECK((applies(128, 4096, 16) && applies(132, 976, 16) && applies(1024, 128, 64) && applies(1024, 64, 128)));
  CHECK_FALSE((applies(132, 1008, 16) || applies(1024, 144, 16) || applies(1024, 16, 144) || applies(1028, 16, 16)));
}

TEST_CASE("conv2d: what does not fit is named") {
  const Tensor x = Tensor::full({2, 5, 5, 4}, 1.0), weight = Tensor::full({6, 3, 3, 4}, 1.0);
  CHECK_THROWS_WITH_AS(conv2d(Tensor::full({5, 5, 4}, 1.0), weight),
                       "[conv2d] input: got [5, 5, 4], expected [N, H, W, C]", ShapeError);
  CHECK_THROWS_WITH_AS(conv2d(x, Tensor::full({6, 4}, 1.0)),
                       "[conv2d] weight: got [6, 4], expected [K, R, S, C / groups]", ShapeError);
  CHECK_THROWS_WITH_AS(
      conv2d(x, weight, {}, {.groups = 2}),
      "[conv2d] weight: got [6, 3, 3, 4] for an input of 4 channels in 2 groups, expected [6, 3, 3, 2]", ShapeError);
  CHECK_THROWS_WITH_AS(conv2d(x, weight, {}, {.groups = 4}),
                       "[conv2d] groups: got 4 groups, expected a divisor of 4 input and 6 output channels",
                       ShapeError);
  CHECK_THROWS_WITH_AS(conv2d(x, weight, Tensor::full({4}, 1.0)), "[conv2d] bias: got [4], expected [6]", ShapeError);
  CHECK_THROWS_WITH_AS(
      conv2d(x, weight, {}, {.dilation = 3}),
      "[conv2d] kernel: got 3 x 3 taps with dilation 3 on [2, 5, 5, 4] with padding 0, expected at least "
      "one tap and an image not smaller than the kernel",
      ShapeError);
  CHECK_THROWS_WITH_AS(
      conv2d(x, weight, {}, {.stride = 0}),
      "[conv2d] got stride 0, dilation 1, groups 1 and padding 0, expected the first three at least 1 and "
      "padding at least 0",
      UsageError);
  CHECK_THROWS_WITH_AS(conv2d(x, Tensor::full({6, 3, 3, 4}, 1.0, DType::f64)),
                       "[conv2d] got f32 and f64, expected one dtype", DTypeError);
}

TEST_CASE("conv2d: the taps inside of an image") {
  for (int64_t first = -7; first < 7; ++first)
    for (int64_t step = 1; step < 4; ++step)
      for (int64_t taps = 0; taps < 5; ++taps)
        for (int64_t size = 1; size < 6; ++size) {
          const TapRange range = taps_inside(first, step, taps, size);
          CHECK((0 <= range.begin && range.begin <= range.end && range.end <= taps));
          for (int64_t t = 0; t < taps; ++t) {
            const bool inside = first + t * step >= 0 && first + t * step < size;
            CHECK(inside == (t >= range.begin && t < range.end));
          }
        }
}

TEST_CASE("conv2d: tiles cover every pixel once, and those of the first images stay when images follow") {
  for (const int64_t side : {1, 2, 8, 11, 16, 17, 40, 128, 129, 300})
    for (const int64_t depth : {1, 27, 576, 5000, -9, -576})  // below zero: by windows
      for (const int64_t images : {1, 3, 64}) {
        const int64_t window = depth < 0 ? 4 : 1;
        const int64_t most = std::max(PixelTiles::usual, window > 1 ? window * side : 0);
        const auto tiles_for = [&](int64_t n) {
          return PixelTiles({n, 1, {side, side, 1, 0, 1, 1}, {side, side, 1, 0, 1, 1}}, std::abs(depth), window);
        };
        const PixelTiles tiles = tiles_for(images), more = tiles_for(images + tiles.images_per_tile);
        int64_t next = 0;
        for (int64_t t = 0; t < tiles.number(); ++t) {
          CHECK(tiles.begin(t) == next);
          CHECK((tiles.length(t) > 0 && tiles.length(t) <= tiles.size && tiles.size <= most));
          if (window > 1) CHECK((next % side == 0 && next % (side * side) / side % window == 0));
          next = tiles.end(t);
          if (images % tiles.images_per_tile == 0) CHECK((more.begin(t) == tiles.begin(t) && more.end(t) == next));
        }
        CHECK(next == images * side * side);
      }
}

TEST_CASE("conv2d: the weight gradient's workspace does not shrink as images are added") {
  for (const int64_t channels : {16, 64, 128}) {
    int64_t before = 0;
    for (int64_t images = 1; images <= 300; ++images) {
      const ConvGeometry g = conv_geometry("test", Shape{images, 8, 8, channels}, 64, 3, 3, {.padding = 1});
      const int64_t now = weight_gradient_workspace(g);
      CHECK(now >= before);
      before = now;
    }
  }
}

}  // namespace parabola::conv2d_test
