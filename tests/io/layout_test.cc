// Weights between the engine's layouts and PyTorch's: against index formulas written out, and there and back.
#include "engine/io/layout.h"

#include <cstring>
#include <functional>
#include <vector>

#include "engine/core/error.h"
#include "tests/support/test.h"

namespace parabola::layout_test {
namespace {

using Index = std::vector<int64_t>;

int64_t offset(const Shape& shape, const Index& index) {
  int64_t flat = 0;
  for (int axis = 0; axis < shape.rank(); ++axis) flat = flat * shape[axis] + index[static_cast<size_t>(axis)];
  return flat;
}

struct Case {
  FileLayout layout;
  Shape engine, file;
  std::function<Index(const Index&)> file_index;  // where the engine's element at this index stands in the file
};

// Sizes all differ, so that no two axes can be taken for each other.
const std::vector<Case> cases = {
    {FileLayout::plain, {2, 3, 5}, {2, 3, 5}, [](const Index& i) { return i; }},
    {FileLayout::conv,
     {7, 2, 3, 5},
     {7, 5, 2, 3},
     [](const Index& i) {
       return Index{i[0], i[3], i[1], i[2]};
     }},
    {FileLayout::depthwise,
     {2, 3, 5},
     {5, 1, 2, 3},
     [](const Index& i) {
       return Index{i[2], 0, i[0], i[1]};
     }},
    {FileLayout::depthwise_factors,
     {4, 2, 3, 5},
     {20, 1, 2, 3},
     [](const Index& i) {
       return Index{i[3] * 4 + i[0], 0, i[1], i[2]};
     }},
    {FileLayout::linear_factors,
     {4, 3, 5},
     {12, 5},
     [](const Index& i) {
       return Index{i[1] * 4 + i[0], i[2]};
     }},
    {FileLayout::conv_factors,
     {4, 7, 2, 3, 5},
     {28, 5, 2, 3},
     [](const Index& i) {
       return Index{i[1] * 4 + i[0], i[4], i[2], i[3]};
     }},
};

// All indices of a shape, in order.
std::vector<Index> indices(const Shape& shape) {
  std::vector<Index> all;
  Index index(static_cast<size_t>(shape.rank()), 0);
  for (int64_t count = 0; count < shape.elements(); ++count) {
    all.push_back(index);
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      auto& i = index[static_cast<size_t>(axis)];
      if (++i < shape[axis]) break;
      i = 0;
    }
  }
  return all;
}

template <class T>
void check(const Case& c) {
  const auto count = static_cast<size_t>(c.engine.elements());
  std::vector<T> engine(count), file(count), back(count);
  for (size_t i = 0; i < count; ++i) engine[i] = static_cast<T>(i % 251);
  to_file(c.engine, c.layout, sizeof(T), engine.data(), file.data());
  size_t wrong = 0;
  for (const Index& index : indices(c.engine)) {
    const auto from = static_cast<size_t>(offset(c.engine, index)),
               to = static_cast<size_t>(offset(c.file, c.file_index(index)));
    wrong += file[to] != engine[from];
  }
  CHECK(wrong == 0);
  from_file(c.engine, c.layout, sizeof(T), file.data(), back.data());
  CHECK(back == engine);
}

}  // namespace

TEST_CASE("layout: each layout as its formula says, for every element size") {
  for (const Case& c : cases) {
    INFO(static_cast<int>(c.layout));
    CHECK(file_shape(c.engine, c.layout) == c.file);
    check<uint8_t>(c);
    check<uint16_t>(c);
    check<float>(c);
    check<double>(c);
  }
}

TEST_CASE("layout: bits are moved, not values") {
  const uint32_t signalling = 0x7f800001u;
  uint32_t moved = 0;
  to_file({1, 1, 1, 1}, FileLayout::conv, 4, &signalling, &moved);
  CHECK(moved == signalling);
}

TEST_CASE("layout: empty tensors") {
  CHECK(file_shape({0, 3, 3, 2}, FileLayout::conv) == Shape{0, 2, 3, 3});
  to_file({0, 3, 3, 2}, FileLayout::conv, 4, nullptr, nullptr);
  from_file({4, 0}, FileLayout::plain, 8, nullptr, nullptr);
}

TEST_CASE("layout: wrong ranks and element sizes") {
  CHECK_THROWS_WITH_AS(file_shape({3, 3, 8}, FileLayout::conv),
                       doctest::Contains("conv: got shape [3, 3, 8], expected rank 4"), ShapeError);
  CHECK_THROWS_AS(file_shape({1, 3, 3, 8}, FileLayout::depthwise), ShapeError);
  CHECK_THROWS_AS(file_shape({3, 3, 8}, FileLayout::depthwise_factors), ShapeError);
  CHECK_THROWS_AS(file_shape({3, 8}, FileLayout::linear_factors), ShapeError);
  CHECK_THROWS_AS(file_shape({2, 3, 3, 8}, FileLayout::conv_factors), ShapeError);
  char in[3] = {}, out[3] = {};
  CHECK_THROWS_AS(to_file({3}, FileLayout::conv, 1, in, out), ShapeError);
  CHECK_THROWS_WITH_AS(to_file({1, 1, 1, 1}, FileLayout::conv, 3, in, out), doctest::Contains("elements of 3 bytes"),
                       UsageError);
}

}  // namespace parabola::layout_test
