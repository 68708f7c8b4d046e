// What all apps share but flags and plots: text for people, records for programs, progress, exit codes.
#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <limits>
#include <new>
#include <sstream>

#include "apps/common/progress.h"
#include "apps/common/records.h"
#include "apps/common/run_app.h"
#include "apps/common/text.h"
#include "engine/core/error.h"
#include "engine/core/random.h"
#include "engine/io/strict_json.h"
#include "tests/support/test.h"

namespace parabola::common_test {
namespace {

std::string content_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void write_file(const std::string& path, std::string_view text) { std::ofstream(path, std::ios::binary) << text; }

// The only string in a JSON document, read back by a parser that this code knows nothing of.
std::string only_string(const std::string& json) {
  std::string out;
  walk_json("test", json, [&](JsonPath, const JsonValue& value) {
    if (value.kind == JsonKind::string) out = value.text;
  });
  return out;
}

}  // namespace

TEST_CASE("text: numbers with their units") {
  CHECK(format_count(0) == "0");
  CHECK(format_count(999) == "999");
  CHECK(format_count(1000) == "1,000");
  CHECK(format_count(1596874) == "1,596,874");
  CHECK(format_count(-123456) == "-123,456");
  CHECK(format_bytes(812) == "812 B");
  CHECK(format_bytes(1536) == "1.5 KiB");
  CHECK(format_bytes(1048575) == "1.0 MiB");
  CHECK(format_bytes(int64_t{3} << 40) == "3.0 TiB");
  CHECK(format_duration(0.84) == "0.8 s");
  CHECK(format_duration(9.96) == "10 s");
  CHECK(format_duration(187) == "3 min 07 s");
  CHECK(format_duration(3599.7) == "1 h 00 min");
  CHECK(format_duration(7500) == "2 h 05 min");
  CHECK(format_percent(0.8103) == "81.03%");
  CHECK(format_percent(NAN) == "-");
}

TEST_CASE("text: a table sets numbers flush right, text flush left, and leaves no blanks at the end") {
  Table table({"method", "top-1", "note"});
  table.add({"head", "68.00%", "x"});
  table.add({"quadratisch, größer", "7.50%", ""});
  table.add({"none", "-", "y"});
  CHECK(table.str() ==
        "method                top-1  note\n"
        "-------------------  ------  ----\n"
        "head                 68.00%  x\n"
        "quadratisch, größer   7.50%\n"
        "none                      -  y\n");
  CHECK_THROWS_AS(table.add({"too", "few"}), std::logic_error);
}

TEST_CASE("text: the word that was meant") {
  const std::vector<std::string> models{"resnet20", "resnet32", "qresnet14", "convnext_cifar"};
  CHECK(nearest_word("resnet21", models) == "resnet20");
  CHECK(nearest_word("resent20", models) == "resnet20");
  CHECK(nearest_word("convnext", models) == "convnext_cifar");
  CHECK(nearest_word("vgg16", models).empty());
  CHECK(nearest_word("", models).empty());
  CHECK(either(std::vector<std::string>{"a", "b", "c"}) == "a, b or c");
}

TEST_CASE("records: keys keep their order, values their kind") {
  Record record("result");
  record.add("text", "a\"b\\\n\x01").add("yes", true).add("count", uint64_t{18446744073709551615u});
  record.add("shape", std::vector<int64_t>{16, 3}).add("none", std::optional<int>()).add("some", std::optional<int>(3));
  record.add("list", std::vector<Record>{Record().add("x", 1), Record()}).add("nan", NAN).add("inf", -INFINITY);
  CHECK(record.str() ==
        R"({"event":"result","text":"a\"b\\\n\u0001","yes":true,"count":18446744073709551615,"shape":[16,3],)"
        R"("none":null,"some":3,"list":[{"x":1},{}],"nan":null,"inf":null})");
}

TEST_CASE("records: numbers read back as the same bits") {
  CHECK(json_number(0.1f) == "0.1");
  CHECK(json_number(-0.0) == "-0");
  CHECK(json_number(std::numeric_limits<double>::denorm_min()) == "5e-324");
  Random random({.seed = 7, .stream = Stream::test});
  for (int i = 0; i < 1000; ++i) {
    const double value = random.normal() * std::pow(10.0, random.uniform(-300, 300));
    const std::string text = json_number(value);
    double back = 0;
    std::from_chars(text.data(), text.data() + text.size(), back);
    REQUIRE(back == value);
  }
}

TEST_CASE("records: any bytes become one line of JSON in UTF-8") {
  std::string all;
  for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
  all += "größe \xe2\x80\xa8";
  CHECK(quote_json_lossily(all).find('\n') == std::string::npos);
  CHECK(only_string(quote_json_lossily(all)) == all);
  CHECK(only_string(quote_json_lossily("caf\xe9")) == "caf\xef\xbf\xbd");
  CHECK(valid_utf8("\xff<\x01") == "\xef\xbf\xbd<\x01");
}

TEST_CASE("records: a file starts anew, or goes on after the bytes to keep") {
  const std::string path = scratch_folder() + "/log.jsonl";
  write_file(path, "something older and longer than what follows\n");
  int64_t after_first = 0;
  {
    JsonLines log(path);
    log.write(Record("a"));
    after_first = log.bytes();
    log.write(Record("b"));
    CHECK(content_of(path) == "{\"event\":\"a\"}\n{\"event\":\"b\"}\n");  // while it is still open
  }
  {
    JsonLines log(path, after_first);
    CHECK(content_of(path) == "{\"event\":\"a\"}\n{\"event\":\"b\"}\n");  // cut by the first write only
    log.write(Record("c"));
  }
  CHECK(content_of(path) == "{\"event\":\"a\"}\n{\"event\":\"c\"}\n");
  CHECK_THROWS_AS(JsonLines(path, 1000), UsageError);
  JsonLines("").write(Record("nowhere"));
}

TEST_CASE("records: a run that writes nothing leaves nothing, and what was there stays") {
  const std::string folder = scratch_folder(), old = folder + "/old.jsonl", fresh = folder + "/new.jsonl";
  write_file(old, "kept\n");
  { JsonLines unused_old(old), unused_fresh(fresh); }
  CHECK(content_of(old) == "kept\n");
  CHECK_FALSE(std::filesystem::exists(fresh));
  CHECK_THROWS_AS(JsonLines(old + "/below-a-file"), UsageError);
  CHECK_THROWS_AS(JsonLines(folder + "/no/such/folder"), UsageError);
  CHECK_THROWS_AS(JsonLines{folder}, UsageError);
}

TEST_CASE("records: a full disk is the system's failure") {
  if (::access("/dev/full", W_OK) != 0) SKIP("this system has no /dev/full");
  JsonLines full("/dev/full");
  CHECK_THROWS_WITH_AS(full.write(Record("x")), doctest::Contains("No space left on device"), Error);
}

TEST_CASE("progress: plain lines come every ten seconds, with rate and time left") {
  double now = 100;
  std::ostringstream out;
  {
    Progress progress(out, false, [&] { return now; });
    progress.begin("epoch 2/3", 100, 0, 100);
    for (int step = 1; step <= 25; ++step) {
      now += 0.5;
      progress.step(64, 0.5, 0.875);
    }
    progress.end("epoch 2/3 done");
  }
  // After 10 s: 20 steps of 64 images; 80 + 100 steps of half a second are left.
  CHECK(out.str() ==
        "epoch 2/3  step 20/100  loss 0.5000  top-1 87.50%  128 images/s  1 min 30 s left\nepoch 2/3 done\n");
}

TEST_CASE("progress: a live line is rewritten at most ten times a second and is gone at the end") {
  double now = 0;
  std::ostringstream out;
  {
    Progress progress(out, true, [&] { return now; });
    progress.begin("epoch 1/1", 1000, 500);
    for (int step = 0; step < 100; ++step) {
      now += 0.01;
      progress.step(10);
    }
    progress.note("saved");
  }
  const std::string text = out.str();
  const auto lines = std::count(text.begin(), text.end(), '\r') - 1;  // the last one clears
  CHECK(lines >= 9);
  CHECK(lines <= 11);
  CHECK(text.find("[==========          ]  step 501/1,000") != std::string::npos);
  CHECK(text.find("nan") == std::string::npos);
  CHECK(text.ends_with("\r\x1b[Ksaved\n"));
}

namespace {
// What `body` makes run_app return, and what it writes to standard error meanwhile.
std::pair<int, std::string> run_and_listen(const std::function<void()>& body) {
  const std::string path = scratch_folder() + "/stderr";
  const int saved = ::dup(STDERR_FILENO), file = ::open(path.c_str(), O_CREAT | O_WRONLY, 0600);
  ::dup2(file, STDERR_FILENO);
  const int code = run_app(body);
  ::dup2(saved, STDERR_FILENO);
  ::close(file);
  ::close(saved);
  return {code, content_of(path)};
}
}  // namespace

TEST_CASE("run_app: every error has its exit code and one line") {
  using Outcome = std::pair<int, std::string>;
  CHECK(run_and_listen([] {}) == Outcome(0, ""));
  CHECK(run_and_listen([] { throw UsageError("--x: y"); }) == Outcome(2, "error: --x: y\n"));
  CHECK(run_and_listen([] { throw FormatError("a\nb\r"); }) == Outcome(2, "error: a b \n"));
  CHECK(run_and_listen([] { throw ShapeError("s"); }).first == 2);
  CHECK(run_and_listen([] { throw DTypeError("s"); }).first == 2);
  CHECK(run_and_listen([] { throw DeviceError("s"); }).first == 2);
  CHECK(run_and_listen([] { throw MemoryError("s"); }).first == 1);
  CHECK(run_and_listen([] { throw Error("disk full"); }) == Outcome(1, "error: disk full\n"));
  CHECK(run_and_listen([] { throw std::bad_alloc(); }).first == 1);
  CHECK(run_and_listen([] { throw std::logic_error("bug"); }) == Outcome(1, "error: bug\n"));
}

}  // namespace parabola::common_test
