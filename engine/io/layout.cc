#include "engine/io/layout.h"

#include <cstring>
#include <string_view>

#include "engine/core/error.h"

namespace parabola {
namespace {

constexpr int max_axes = 5;

// A layout as a permutation: axis i of the file (before factors are merged into their neighbour) is axis order[i] of
// the engine.
struct Order {
  std::string_view name;
  int rank;
  int order[max_axes];
};

Order order_of(FileLayout layout) {
  switch (layout) {
    case FileLayout::conv: return {"conv", 4, {0, 3, 1, 2}};
    case FileLayout::depthwise: return {"depthwise", 3, {2, 0, 1}};
    case FileLayout::depthwise_factors: return {"depthwise_factors", 4, {3, 0, 1, 2}};
    case FileLayout::linear_factors: return {"linear_factors", 3, {1, 0, 2}};
    case FileLayout::conv_factors: return {"conv_factors", 5, {1, 0, 4, 2, 3}};
    case FileLayout::plain: break;
  }
  return {"plain", 0, {}};
}

Order checked_order(const Shape& engine, FileLayout layout) {
  const Order order = order_of(layout);
  if (engine.rank() != order.rank)
    fail<ShapeError>("layout", order.name, ": got shape ", engine, ", expected rank ", order.rank);
  return order;
}

// Elements are known by their size only; a fixed size lets the compiler turn memcpy into one move.
template <size_t Bytes>
void copy_permuted(const Shape& engine, const Order& order, const std::byte* from, std::byte* to, bool is_to_file) {
  int64_t size[max_axes], stride[max_axes];  // of the file's axes; strides in the engine's tensor, in elements
  for (int axis = 0; axis < max_axes; ++axis) {
    const bool exists = axis < order.rank;
    size[axis] = exists ? engine[order.order[axis]] : 1;
    stride[axis] = exists ? engine.product(order.order[axis] + 1, order.rank) : 0;
  }
  size_t in_file = 0;
  for (int64_t a = 0; a < size[0]; ++a)
    for (int64_t b = 0; b < size[1]; ++b)
      for (int64_t c = 0; c < size[2]; ++c)
        for (int64_t d = 0; d < size[3]; ++d)
          for (int64_t e = 0; e < size[4]; ++e, ++in_file) {
            const auto in_engine =
                static_cast<size_t>(a * stride[0] + b * stride[1] + c * stride[2] + d * stride[3] + e * stride[4]);
            const size_t source = is_to_file ? in_engine : in_file, target = is_to_file ? in_file : in_engine;
            std::memcpy(to + target * Bytes, from + source * Bytes, Bytes);
          }
}

void copy(const Shape& engine, FileLayout layout, size_t element_bytes, const void* from, void* to, bool is_to_file) {
  const std::byte* const in = static_cast<const std::byte*>(from);
  std::byte* const out = static_cast<std::byte*>(to);
  if (engine.elements() == 0) return;
  if (layout == FileLayout::plain) {
    std::memcpy(out, in, static_cast<size_t>(engine.elements()) * element_bytes);
    return;
  }
  const Order order = checked_order(engine, layout);
  switch (element_bytes) {
    case 1: return copy_permuted<1>(engine, order, in, out, is_to_file);
    case 2: return copy_permuted<2>(engine, order, in, out, is_to_file);
    case 4: return copy_permuted<4>(engine, order, in, out, is_to_file);
    case 8: return copy_permuted<8>(engine, order, in, out, is_to_file);
    default: fail<UsageError>("layout", "got elements of ", element_bytes, " bytes, expected 1, 2, 4 or 8");
  }
}

}  // namespace

Shape file_shape(const Shape& engine, FileLayout layout) {
  if (layout == FileLayout::plain) return engine;
  checked_order(engine, layout);
  const Shape& e = engine;
  switch (layout) {
    case FileLayout::conv: return {e[0], e[3], e[1], e[2]};
    case FileLayout::depthwise: return {e[2], 1, e[0], e[1]};
    case FileLayout::depthwise_factors: return {e[3] * e[0], 1, e[1], e[2]};
    case FileLayout::linear_factors: return {e[1] * e[0], e[2]};
    case FileLayout::conv_factors: return {e[1] * e[0], e[4], e[2], e[3]};
    case FileLayout::plain: break;
  }
  return engine;
}

void to_file(const Shape& engine, FileLayout layout, size_t element_bytes, const void* engine_data, void* file_data) {
  copy(engine, layout, element_bytes, engine_data, file_data, true);
}

void from_file(const Shape& engine, FileLayout layout, size_t element_bytes, const void* file_data, void* engine_data) {
  copy(engine, layout, element_bytes, file_data, engine_data, false);
}

}  // namespace parabola
