#pragma once
#include <string_view>

namespace parabola {

// A glob over full names in which * and ? cross dots: "layer*.conv*".
bool matches(std::string_view pattern, std::string_view name);

}  // namespace parabola
