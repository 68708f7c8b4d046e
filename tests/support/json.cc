#include "tests/support/json.h"

#include <algorithm>
#include <cstdlib>
#include <ostream>

#include "engine/core/error.h"

namespace parabola {

Json::Json(std::string_view text) {
  walk_json("JSON", text, [&](JsonPath path, const JsonValue& value) {
    Json* place = this;  // values come in order: each belongs to the last one of every level above
    for (size_t level = 1; level < path.size(); ++level) place = &place->members_.back();
    if (!path.empty()) {
      place = &place->members_.emplace_back();
      place->key_ = path.back();
    }
    place->kind_ = value.kind;
    place->text_ = value.text;
  });
}

bool Json::contains(std::string_view key) const {
  return std::ranges::any_of(members_, [&](const Json& member) { return member.key_ == key; });
}

const Json& Json::at(std::string_view key) const {
  const auto found = std::ranges::find(members_, key, &Json::key_);
  if (found == members_.end()) fail<Error>("test", "no ", key, " in ", *this);
  return *found;
}

void Json::erase(std::string_view key) {
  std::erase_if(members_, [&](const Json& member) { return member.key_ == key; });
}

double Json::number() const {
  if (!is_number()) fail<Error>("test", "got ", *this, ", expected a number");
  return std::strtod(text_.c_str(), nullptr);
}

const std::string& Json::text() const {
  if (!is_number() && kind_ != JsonKind::string) fail<Error>("test", "got ", *this, ", expected a string or a number");
  return text_;
}

bool operator==(const Json& left, const Json& right) {
  if (left.is_number() && right.is_number()) return left.number() == right.number();
  return left.kind_ == right.kind_ && left.text_ == right.text_ &&
         std::ranges::equal(left, right, [](const Json& a, const Json& b) { return a.key_ == b.key_ && a == b; });
}

std::ostream& operator<<(std::ostream& out, const Json& value) {
  out << JsonValue{value.kind_, 0, value.text_}.describe();
  for (const Json& member : value) out << (&member == &value.members_[0] ? " of " : ", ") << member.key_;
  return out;
}

}  // namespace parabola
