#include "data/class_names.h"

#include <algorithm>
#include <sstream>

#include "engine/core/error.h"
#include "engine/io/input_file.h"
#include "engine/io/strict_json.h"

namespace parabola {

std::vector<std::string> read_class_names(const std::string& path, size_t classes) {
  constexpr size_t max_bytes = size_t{1} << 20;  // ImageNet's 1,000 names have 30,000
  const InputFile file(path);
  std::string text(std::min<size_t>(file.size(), max_bytes), ' ');
  file.read(0, text.data(), text.size());
  std::istringstream lines(text);
  std::vector<std::string> names;
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) names.push_back(line);
  }
  if (names.size() != classes) {
    fail<FormatError>(printable_path(path), "class names: got ", names.size(), ", expected ", classes, ", one a line");
  }
  return names;
}

std::vector<std::string> numbered_classes(size_t classes) {
  std::vector<std::string> names;
  for (size_t label = 0; label < classes; ++label) names.push_back(std::to_string(label));
  return names;
}

std::string class_names_json(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ",") + quote_json(name);
  return "[" + list + "]";
}

std::vector<std::string> parse_class_names(const std::string& where, const std::string& json) {
  std::vector<std::string> names;
  walk_json(where, json, [&](JsonPath path, const JsonValue& value) {
    if (value.kind != (path.empty() ? JsonKind::array : JsonKind::string))
      fail<FormatError>(where, "class_names: got ", value.describe(), ", expected an array of strings");
    if (!path.empty()) names.emplace_back(value.text);
  });
  return names;
}

}  // namespace parabola
