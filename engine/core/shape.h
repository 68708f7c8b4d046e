// Shape: the sizes of a tensor's axes, at most six, row-major. Shape letters used everywhere:
// N batch, H W image rows and columns, C input channels, K output channels, R S kernel rows and columns.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <span>
#include <string>

namespace parabola {

class Shape {
 public:
  static constexpr int max_rank = 6;

  Shape() = default;  // rank 0: a scalar, one element
  Shape(std::initializer_list<int64_t> sizes) : Shape(std::span<const int64_t>(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const int64_t> sizes);  // ShapeError: rank over 6, a negative size, more than 2^59 elements

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return sizes_[static_cast<size_t>(axis < 0 ? axis + rank_ : axis)]; }
  int64_t back() const { return (*this)[rank_ - 1]; }
  int64_t elements() const { return elements_; }  // product of the sizes; 1 for a scalar
  std::span<const int64_t> sizes() const { return {sizes_.data(), static_cast<size_t>(rank_)}; }
  Shape with(int axis, int64_t size) const;   // the same shape with one size replaced
  int64_t product(int begin, int end) const;  // product of sizes of axes [begin, end)

  bool operator==(const Shape& other) const { return rank_ == other.rank_ && sizes_ == other.sizes_; }
  std::string str() const;  // "[128, 32, 32, 16]"

 private:
  std::array<int64_t, max_rank> sizes_{};
  int rank_ = 0;
  int64_t elements_ = 1;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape);

// The shape that a and b have together after broadcasting (trailing axes aligned; equal, or one of them 1).
// ShapeError, naming `op`, where they do not fit.
Shape broadcast(const Shape& a, const Shape& b, const char* op);

}  // namespace parabola
