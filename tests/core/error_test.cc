#include "engine/core/error.h"

#include <doctest/doctest.h>

#include "engine/core/shape.h"

namespace parabola::error_test {

TEST_CASE("error: [where] what, one line") {
  CHECK_THROWS_WITH_AS(fail<ShapeError>("linear", "got ", Shape{2, 3}, " and ", Shape{4}, ", expected ", 3),
                       "[linear] got [2, 3] and [4], expected 3", ShapeError);
  CHECK(concat("a", 1, 'b', 2.5) == "a1b2.5");
}

TEST_CASE("error: every kind is an Error, and no kind is another one") {
  CHECK_THROWS_AS(fail<ShapeError>("x", ""), Error);
  CHECK_THROWS_AS(fail<DTypeError>("x", ""), Error);
  CHECK_THROWS_AS(fail<DeviceError>("x", ""), Error);
  CHECK_THROWS_AS(fail<MemoryError>("x", ""), Error);
  CHECK_THROWS_AS(fail<FormatError>("x", ""), Error);
  CHECK_THROWS_AS(fail<UsageError>("x", ""), Error);
  CHECK_FALSE(std::is_base_of_v<UsageError, FormatError>);
  CHECK_FALSE(std::is_base_of_v<UsageError, MemoryError>);
}

TEST_CASE("scope: names nest, go into messages, and end with their block") {
  CHECK(Scope::current().empty());
  {
    const Scope model("resnet");
    {
      const Scope block("layer1.0"), unnamed(""), conv("conv1");
      CHECK(Scope::current() == "resnet.layer1.0.conv1");
      CHECK_THROWS_WITH_AS(fail<UsageError>("op", "wrong"), "[op] wrong (in resnet.layer1.0.conv1)", UsageError);
    }
    CHECK(Scope::current() == "resnet");
  }
  CHECK(Scope::current().empty());
  CHECK_THROWS_WITH_AS(fail<UsageError>("op", "wrong"), "[op] wrong", UsageError);
}

TEST_CASE("scope: an exception closes the scopes that it leaves") {
  for (int i = 0; i < 3; ++i) {
    try {
      const Scope outer("outer"), inner("inner");
      fail<Error>("op", "wrong");
    } catch (const Error& error) {
      CHECK(std::string(error.what()) == "[op] wrong (in outer.inner)");
    }
    CHECK(Scope::current().empty());
  }
}

TEST_CASE("scope: a recorded name opens again as it was, not below the names that are open") {
  const Scope training("training");
  {
    const Scope recorded = Scope::reopen("model.conv1");
    CHECK(Scope::current() == "model.conv1");
    const Scope inner("inner");
    CHECK(Scope::current() == "model.conv1.inner");
  }
  CHECK(Scope::current() == "training");
}

TEST_CASE("printable: control characters become visible, long text is cut") {
  CHECK(printable("layer1.0.conv1.weight") == "layer1.0.conv1.weight");
  CHECK(printable("") == "");
  CHECK(printable("two\nlines\r\t\x1b[31m") == "two\\x0alines\\x0d\\x09\\x1b[31m");
  CHECK(printable(std::string_view("a\0b\x7f", 4)) == "a\\x00b\\x7f");
  CHECK(printable("Gewicht \xc3\xa4") == "Gewicht \xc3\xa4");  // UTF-8 stays
  CHECK(printable("12345", 5) == "12345");
  CHECK(printable("123456", 5) == "12345...");
  CHECK(printable(std::string(1000, 'x')).size() == 123);
}

TEST_CASE("printable: a cut leaves no half of a UTF-8 character behind") {
  const std::string text = "abc\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z";  // abc, a umlaut, euro sign, a face, z
  const auto is_cut_at = [&](size_t limit, size_t bytes) {
    return printable(text, limit) == text.substr(0, bytes) + "...";
  };
  CHECK(is_cut_at(3, 3));
  CHECK(is_cut_at(4, 3));
  CHECK(is_cut_at(5, 5));
  CHECK(is_cut_at(6, 5));
  CHECK(is_cut_at(7, 5));
  CHECK(is_cut_at(8, 8));
  CHECK(is_cut_at(11, 8));
  CHECK(is_cut_at(12, 12));
  CHECK(printable(text, 13) == text);
}

TEST_CASE("assertion: an internal mistake is an exception that names its place, not the end of the process") {
  const auto broken = [](int n) { PARABOLA_ASSERT(n == 1); };
  CHECK_NOTHROW(broken(1));
  try {
    broken(2);
    FAIL("the assertion let it pass");
  } catch (const std::logic_error& error) {
    const std::string text = error.what();
    CHECK(text.find("error_test.cc") != std::string::npos);
    CHECK(text.find("n == 1 does not hold") != std::string::npos);
  }
}

}  // namespace parabola::error_test
