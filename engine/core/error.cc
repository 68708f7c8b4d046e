#include "engine/core/error.h"

#include <cstdio>

namespace parabola {
namespace {
thread_local std::string scope_name;
}

Scope::Scope(std::string_view name) : previous_length_(scope_name.size()) {
  if (name.empty()) return;
  if (!scope_name.empty()) scope_name += '.';
  scope_name += name;
}
Scope::~Scope() { scope_name.resize(previous_length_); }
const std::string& Scope::current() { return scope_name; }

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  for (unsigned char c : text) {
    if (out.size() >= limit) return out + "...";
    if (c >= 0x20 && c != 0x7f) {
      out += static_cast<char>(c);
    } else {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02x", c);
      out += escaped;
    }
  }
  return out;
}

void internal_error(const char* file, int line, const char* condition) {
  throw std::logic_error(
      concat("internal error at ", file, ":", line, ": ", condition, " does not hold; please report it"));
}

}  // namespace parabola
