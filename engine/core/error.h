// What can go wrong, in one family. Every message reads
//     [op] what: got A and B, expected C (in block2.conv1)
// and is one line, so that an app can print it as it stands.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace parabola {

// Base of all errors. Thrown as itself where the system failed (disk full, file lost while running): exit code 1.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct ShapeError : Error {
  using Error::Error;
};  // shapes that do not fit together
struct DTypeError : Error {
  using Error::Error;
};  // element types that do not fit
struct DeviceError : Error {
  using Error::Error;
};  // a device that is absent, too old, or failed
struct MemoryError : Error {
  using Error::Error;
};  // out of memory
struct FormatError : Error {
  using Error::Error;
};  // a file that is not what it should be
struct UsageError : Error {
  using Error::Error;
};  // a wrong flag, argument, path, or call

// Names the part of the model that runs now ("layer1.0.conv1"); scopes nest, and the name goes into errors and tape
// nodes.
class Scope {
 public:
  explicit Scope(std::string_view name);
  static Scope reopen(std::string_view full_name);  // a recorded current(), in place of the scopes that are open
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  static const std::string& current();  // full dotted name, empty outside of all scopes

 private:
  struct Reopened {};
  Scope(Reopened, std::string_view full_name);
  std::string previous_;
};

// Joins its arguments with operator<<: concat("got ", shape, ", expected ", n).
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// Throws E with "[where] parts... (in scope)".
template <class E, class... Parts>
[[noreturn]] void fail(std::string_view where, const Parts&... parts) {
  std::string text = concat("[", where, "] ", parts...);
  if (!Scope::current().empty()) text += concat(" (in ", Scope::current(), ")");
  throw E(text);
}

// Text from outside (file names, tensor names) made safe for one line: control characters escaped, long text cut.
std::string printable(std::string_view text, size_t limit = 120);

// An internal promise was broken: a bug here, not the user's mistake.
[[noreturn]] void internal_error(const char* file, int line, const char* condition);
#define PARABOLA_ASSERT(condition) ((condition) ? (void)0 : ::parabola::internal_error(__FILE__, __LINE__, #condition))

}  // namespace parabola
