// What the classes are called.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace parabola {

// Reads a text file with a name on each line; empty lines do not count. UsageError: no such file. FormatError: another
// number of names than classes.
std::vector<std::string> read_class_names(const std::string& path, size_t classes);

// "0", "1", ...: where nobody has named them.
std::vector<std::string> numbered_classes(size_t classes);

// As the metadata key `class_names` of a weights file has them: a JSON array of strings. FormatError naming `where` on
// anything else. UsageError: a name that is not UTF-8.
std::string class_names_json(const std::vector<std::string>& names);
std::vector<std::string> parse_class_names(const std::string& where, const std::string& json);

}  // namespace parabola
