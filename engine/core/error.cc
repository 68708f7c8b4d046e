#include "engine/core/error.h"

#include <cstdio>

namespace parabola {
namespace {
thread_local std::string scope_name;
}

Scope::Scope(std::string_view name) : previous_(scope_name) {
  if (name.empty()) return;
  if (!scope_name.empty()) scope_name += '.';
  scope_name += name;
}
Scope::Scope(Reopened, std::string_view full_name) : previous_(scope_name) { scope_name = full_name; }
Scope Scope::reopen(std::string_view full_name) { return Scope(Reopened{}, full_name); }
Scope::~Scope() { scope_name = std::move(previous_); }
const std::string& Scope::current() { return scope_name; }

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  const auto continues = [](unsigned char byte) { return (byte & 0xc0) == 0x80; };  // a UTF-8 character
  for (unsigned char c : text) {
    if (out.size() >= limit) {
      if (continues(c)) {  // a cut here would leave half of one
        while (!out.empty() && continues(static_cast<unsigned char>(out.back()))) out.pop_back();
        if (!out.empty()) out.pop_back();
      }
      return out + "...";
    }
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
