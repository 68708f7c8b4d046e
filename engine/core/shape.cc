#include "engine/core/shape.h"

#include <algorithm>
#include <ostream>

#include "engine/core/error.h"

namespace parabola {

Shape::Shape(std::span<const int64_t> sizes) {
  if (sizes.size() > max_rank) fail<ShapeError>("shape", "rank ", sizes.size(), ", expected at most ", int{max_rank});
  rank_ = static_cast<int>(sizes.size());
  std::copy(sizes.begin(), sizes.end(), sizes_.begin());
  constexpr int64_t limit = int64_t{1} << 59;  // so that bytes, up to 8 an element, fit into 63 bits
  bool empty = false;
  for (int64_t size : sizes) {
    if (size < 0) fail<ShapeError>("shape", "negative size in ", str());
    if (size == 0)
      empty = true;
    else if (elements_ > limit / size)
      fail<ShapeError>("shape", "too many elements in ", str());
    else
      elements_ *= size;
  }
  if (empty) elements_ = 0;
}

Shape Shape::with(int axis, int64_t size) const {
  std::array<int64_t, max_rank> sizes = sizes_;
  sizes[static_cast<size_t>(axis < 0 ? axis + rank_ : axis)] = size;
  return Shape(std::span<const int64_t>(sizes.data(), static_cast<size_t>(rank_)));
}

int64_t Shape::product(int begin, int end) const {
  int64_t product = 1;
  for (int axis = begin; axis < end; ++axis) product *= sizes_[static_cast<size_t>(axis)];
  return product;
}

std::string Shape::str() const {
  std::string text = "[";
  for (int axis = 0; axis < rank_; ++axis) {
    if (axis) text += ", ";
    text += std::to_string(sizes_[static_cast<size_t>(axis)]);
  }
  return text + "]";
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.str(); }

Shape broadcast(const Shape& a, const Shape& b, const char* op) {
  const int rank = std::max(a.rank(), b.rank());
  std::array<int64_t, Shape::max_rank> sizes{};
  for (int i = 1; i <= rank; ++i) {
    const int64_t left = i <= a.rank() ? a[a.rank() - i] : 1, right = i <= b.rank() ? b[b.rank() - i] : 1;
    if (left != right && left != 1 && right != 1)
      fail<ShapeError>(op, "shapes do not broadcast: got ", a, " and ", b,
                       ", expected trailing sizes that are equal or 1");
    sizes[static_cast<size_t>(rank - i)] = left == 1 ? right : left;
  }
  return Shape(std::span<const int64_t>(sizes.data(), static_cast<size_t>(rank)));
}

}  // namespace parabola
