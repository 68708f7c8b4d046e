#include "engine/ops/registry.h"

#include <array>

#include "engine/ops/linear.h"
#include "engine/ops/matmul.h"
#include "engine/ops/relu.h"

namespace parabola {

std::span<const OpDef* const> all_ops() {
  static constexpr std::array ops = {
      &linear_op,
      &matmul_op,
      &relu_op,
  };
  return ops;
}

const OpDef* find_op(std::string_view name) {
  for (const OpDef* op : all_ops())
    if (op->name == name) return op;
  return nullptr;
}

}  // namespace parabola
