// Every op of the engine by name; tests, profiler rows and graph labels come from it.
#pragma once
#include <span>

#include "engine/core/op.h"

namespace parabola {

std::span<const OpDef* const> all_ops();
const OpDef* find_op(std::string_view name);  // null where there is none

}  // namespace parabola
