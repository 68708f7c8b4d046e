#include "engine/core/shape.h"

#include <doctest/doctest.h>

#include <sstream>
#include <vector>

#include "engine/core/error.h"

namespace parabola::shape_test {

namespace {

Shape shape_of(const std::vector<int64_t>& sizes) { return Shape(std::span<const int64_t>(sizes)); }

}  // namespace

TEST_CASE("shape: sizes, rank, number of elements") {
  const Shape scalar, image{2, 3, 5, 7}, empty{4, 0, 3};
  CHECK(scalar.rank() == 0);
  CHECK(scalar.elements() == 1);
  CHECK(scalar.sizes().empty());
  CHECK(image.rank() == 4);
  CHECK(image.elements() == 210);
  CHECK(image[0] == 2);
  CHECK(image[3] == 7);
  CHECK(image[-1] == 7);
  CHECK(image[-4] == 2);
  CHECK(image.back() == 7);
  CHECK(image.product(0, 4) == 210);
  CHECK(image.product(1, 3) == 15);
  CHECK(image.product(2, 2) == 1);
  CHECK(empty.elements() == 0);
  CHECK(shape_of({1, 2, 3, 4, 5, 6}).elements() == 720);
}

TEST_CASE("shape: equality looks at rank and sizes") {
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK(Shape{2, 3} != Shape{3, 2});
  CHECK(Shape{2, 3} != Shape{2, 3, 1});
  CHECK(Shape{} != Shape{1});
  CHECK(Shape{0} != Shape{});
}

TEST_CASE("shape: with one size replaced") {
  const Shape shape{2, 3, 5};
  CHECK(shape.with(0, 7) == Shape{7, 3, 5});
  CHECK(shape.with(-1, 1) == Shape{2, 3, 1});
  CHECK(shape.with(1, 0).elements() == 0);
  CHECK_THROWS_AS(shape.with(1, -1), ShapeError);
}

TEST_CASE("shape: printing") {
  CHECK(Shape{}.str() == "[]");
  CHECK(Shape{128, 32, 32, 16}.str() == "[128, 32, 32, 16]");
  std::ostringstream out;
  out << Shape{5};
  CHECK(out.str() == "[5]");
}

TEST_CASE("shape: what is refused") {
  CHECK_THROWS_WITH_AS(shape_of({1, 2, 3, 4, 5, 6, 7}), "[shape] rank 7, expected at most 6", ShapeError);
  CHECK_THROWS_WITH_AS((Shape{2, -1}), "[shape] negative size in [2, -1]", ShapeError);
  CHECK_THROWS_WITH_AS((Shape{int64_t{1} << 31, int64_t{1} << 31}),
                       "[shape] too many elements in [2147483648, 2147483648]", ShapeError);
  // Products that wrap around 64 bits to something small, or to zero.
  CHECK_THROWS_AS((Shape{int64_t{1} << 32, int64_t{1} << 32}), ShapeError);
  CHECK_THROWS_AS((Shape{3, INT64_MAX}), ShapeError);
  CHECK_THROWS_AS((Shape{INT64_MAX, INT64_MAX, INT64_MAX}), ShapeError);
  CHECK_THROWS_AS((Shape{INT64_MAX}), ShapeError);
  // A zero does not hide the rest: product() over the other axes must not overflow either.
  CHECK_THROWS_AS((Shape{0, INT64_MAX, INT64_MAX}), ShapeError);
}

TEST_CASE("shape: the bytes of the largest one still fit into 63 bits, whatever the dtype") {
  constexpr int64_t most = int64_t{1} << 59;
  const Shape largest{most};
  CHECK(static_cast<size_t>(largest.elements()) * sizeof(double) == size_t{1} << 62);
  CHECK_THROWS_AS((Shape{most + 1}), ShapeError);
  CHECK_THROWS_AS((Shape{2, most}), ShapeError);
}

TEST_CASE("broadcast: trailing axes aligned, equal or one of them 1") {
  CHECK(broadcast(Shape{2, 3}, Shape{2, 3}, "add") == Shape{2, 3});
  CHECK(broadcast(Shape{2, 3}, Shape{3}, "add") == Shape{2, 3});
  CHECK(broadcast(Shape{3}, Shape{2, 1}, "add") == Shape{2, 3});
  CHECK(broadcast(Shape{4, 1, 5}, Shape{6, 1}, "add") == Shape{4, 6, 5});
  CHECK(broadcast(Shape{}, Shape{7, 2}, "add") == Shape{7, 2});
  CHECK(broadcast(Shape{}, Shape{}, "add") == Shape{});
  CHECK(broadcast(Shape{0, 3}, Shape{1, 3}, "add") == Shape{0, 3});
  CHECK(broadcast(Shape{1}, Shape{0}, "add") == Shape{0});
}

TEST_CASE("broadcast: names the op and both shapes where they do not fit") {
  CHECK_THROWS_WITH_AS(
      broadcast(Shape{2, 3}, Shape{2}, "multiply"),
      "[multiply] shapes do not broadcast: got [2, 3] and [2], expected trailing sizes that are equal or 1",
      ShapeError);
  CHECK_THROWS_AS(broadcast(Shape{0}, Shape{3}, "add"), ShapeError);
  CHECK_THROWS_AS(broadcast(Shape{1 << 30, 1}, Shape{1, int64_t{1} << 30}, "add"), ShapeError);
}

}  // namespace parabola::shape_test
