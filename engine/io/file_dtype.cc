#include "engine/io/safetensors_header.h"

namespace parabola {
namespace {

struct Row {
  std::string_view name;
  uint64_t bits;
};
constexpr Row table[] = {{"BOOL", 8},    {"U8", 8},      {"I8", 8},          {"U16", 16},        {"I16", 16},
                         {"U32", 32},    {"I32", 32},    {"U64", 64},        {"I64", 64},        {"F16", 16},
                         {"BF16", 16},   {"F32", 32},    {"F64", 64},        {"C64", 64},        {"F8_E4M3", 8},
                         {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F4", 4},
                         {"F6_E2M3", 6}, {"F6_E3M2", 6}};
static_assert(std::size(table) == static_cast<size_t>(FileDType::f6_e3m2) + 1);

}  // namespace

std::string_view name_of(FileDType dtype) { return table[static_cast<size_t>(dtype)].name; }
uint64_t bits_of(FileDType dtype) { return table[static_cast<size_t>(dtype)].bits; }

std::optional<FileDType> file_dtype(std::string_view name) {
  for (size_t i = 0; i < std::size(table); ++i)
    if (table[i].name == name) return static_cast<FileDType>(i);
  return std::nullopt;
}

}  // namespace parabola
