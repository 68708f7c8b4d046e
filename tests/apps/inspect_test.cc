// The app inspect, run as a user runs it.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "engine/io/safetensors.h"
#include "engine/io/strict_json.h"
#include "tests/support/test.h"

namespace parabola::inspect_test {
namespace {

std::string file_of(const std::string& name, std::string_view content) {
  const std::string path = scratch_folder() + "/" + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

// A .safetensors file with any header: its length in front, `data_bytes` zeros behind.
std::string safetensors_with(const std::string& header, size_t data_bytes) {
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
  return file_of("made.safetensors", length + header + std::string(data_bytes, '\0'));
}

std::string sound_file() {
  const std::vector<float> weight{1, 2, 3, 4, 5, 6};
  const std::vector<int32_t> labels{7};
  const std::vector<TensorData> tensors{{"fc.weight", DType::f32, {2, 3}, weight.data()},
                                        {"fc.count", DType::i32, {}, labels.data()}};
  const std::string path = scratch_folder() + "/model.safetensors";
  write_safetensors(path, tensors, {{"format", "pt"}, {"model", "line\nbreak"}});
  return path;
}

size_t lines_of(const std::string& text) { return static_cast<size_t>(std::count(text.begin(), text.end(), '\n')); }

void check_refused(const ProgramResult& result, const std::string& about) {
  CAPTURE(result.err);
  CHECK(result.code == 2);
  CHECK(result.out == "");
  CHECK(lines_of(result.err) == 1);
  CHECK(result.err.starts_with("error: "));
  CHECK(result.err.find(about) != std::string::npos);
}

}  // namespace

TEST_CASE("inspect: shows tensors, metadata and totals") {
  const std::string path = sound_file();
  const ProgramResult result = run_program({"inspect", path});
  CHECK(result.code == 0);
  CHECK(result.err == "");
  CHECK(result.out.starts_with(path + "\n"));
  CHECK(result.out.find("2 tensors (1 F32, 1 I32)") != std::string::npos);
  CHECK(result.out.find("  model: line\\x0abreak\n") != std::string::npos);
  CHECK(result.out.find("tensor     dtype  shape   elements  bytes\n"
                        "---------  -----  ------  --------  -----\n") != std::string::npos);
  CHECK(result.out.find("fc.weight  F32    [2, 3]         6     24\n") != std::string::npos);
  CHECK(result.out.find("fc.count   I32    []             1      4\n") != std::string::npos);
  CHECK(result.out.find("total                            7     28\n") != std::string::npos);
}

TEST_CASE("inspect: one result record for each file") {
  const std::string path = sound_file(), json = scratch_folder() + "/out.jsonl";
  REQUIRE(run_program({"inspect", path, path, "--json", json}).code == 0);
  std::ifstream in(json);
  std::string line, names, bytes;
  size_t lines = 0;
  for (; std::getline(in, line); ++lines) {
    names.clear();
    walk_json("out.jsonl", line, [&](JsonPath at, const JsonValue& value) {
      if (at.empty()) return;
      const std::string& key = at.back();
      if (key == "event") CHECK(value.text == "result");
      if (key == "file") CHECK(value.text == path);
      if (key == "bytes") CHECK(value.natural == std::filesystem::file_size(path));
      if (key == "name" || key == "dtype") names += std::string(value.text) + " ";
    });
    CHECK(names == "fc.count I32 fc.weight F32 ");  // by the writer's order
    CHECK(line.find("\"shape\":[2,3]") != std::string::npos);
    CHECK(line.find("\"shape\":[]") != std::string::npos);
    CHECK(line.find("\"metadata\":{\"format\":\"pt\",\"model\":\"line\\nbreak\"}") != std::string::npos);
  }
  CHECK(lines == 2);
}

TEST_CASE("inspect: --json - leaves standard output to the records") {
  const ProgramResult result = run_program({"inspect", "--json", "-", sound_file()});
  CHECK(result.code == 0);
  CHECK(lines_of(result.out) == 1);
  CHECK(result.out.starts_with("{\"event\":\"result\",\"file\":"));
  CHECK(result.err.find("fc.weight") != std::string::npos);
}

TEST_CASE("inspect: a bad file is named with what is wrong, in one line") {
  check_refused(run_program({"inspect", "no-such-file"}), "no-such-file");
  check_refused(run_program({"inspect", scratch_folder()}), "");
  check_refused(run_program({"inspect", file_of("short", "abc")}), "short");
  check_refused(run_program({"inspect", file_of("page.safetensors", "<!doctype html><html>")}), "page.safetensors");
  check_refused(
      run_program({"inspect", safetensors_with(R"({"w":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", 4)}),
      "F33");
  check_refused(
      run_program({"inspect", safetensors_with(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 3)}),
      "made.safetensors");
  // A name that would write over the terminal's line.
  const ProgramResult result = run_program(
      {"inspect", safetensors_with(R"({"evil\n\u001b[2K":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4)});
  check_refused(result, "evil\\x0a");
  CHECK(result.err.find('\x1b') == std::string::npos);
}

TEST_CASE("inspect: names from outside cannot steer the terminal") {
  const ProgramResult result = run_program(
      {"inspect", safetensors_with(R"({"a\u001b[2K\nb":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4)});
  CHECK(result.code == 0);
  CHECK(result.out.find('\x1b') == std::string::npos);
  CHECK(result.out.find("a\\x1b[2K\\x0ab") != std::string::npos);
}

TEST_CASE("inspect: files before a bad one are shown, and nothing is left of a refused run") {
  const std::string json = scratch_folder() + "/out.jsonl";
  const ProgramResult result = run_program({"inspect", sound_file(), "no-such-file"});
  CHECK(result.code == 2);
  CHECK(result.out.find("fc.weight") != std::string::npos);
  CHECK(lines_of(result.err) == 1);
  CHECK(run_program({"inspect", "no-such-file", "--json", json}).code == 2);
  CHECK_FALSE(std::filesystem::exists(json));
}

TEST_CASE("inspect: help, unknown flags, and a file for records that cannot be written") {
  CHECK(run_program({"inspect", "--help"}).code == 0);
  CHECK(run_program({"inspect", "--help"}).out.find("Usage: inspect FILE...") != std::string::npos);
  check_refused(run_program({"inspect"}), "FILE: missing");
  check_refused(run_program({"inspect", "--jsno", "-"}), "did you mean --json?");
  check_refused(run_program({"inspect", sound_file(), "--json", file_of("plain", "") + "/below"}), "Not a directory");
}

TEST_CASE("inspect: output that cannot be written is the system's failure: exit 1, one line") {
  const auto quoted = [](const std::string& text) { return "'" + text + "'"; };
  const std::string path = quoted(sound_file()), inspect = quoted(build_folder() + "/bin/inspect");
  const auto shell = [](const std::string& line) { return run_program({"/bin/sh", "-c", line}); };
  for (const std::string& redirection : {std::string(" > /dev/full"), std::string(" --json - > /dev/full"),
                                         std::string(" --json /dev/full"), std::string(" >&-")}) {
    if (redirection.ends_with("full") && ::access("/dev/full", W_OK) != 0) continue;
    const ProgramResult result = shell(inspect + " " + path + redirection);
    CAPTURE(redirection);
    CHECK(result.code == 1);
    CHECK(result.err.find("error: ") != std::string::npos);
    CHECK(result.err.find("cannot be written") != std::string::npos);
  }
  // A pipe that nobody reads any more: the signal would kill the process without a word.
  const std::string pipe = quoted(scratch_folder() + "/pipe");
  const ProgramResult closed =
      shell("mkfifo " + pipe + "; exec 3<>" + pipe + " 4>" + pipe + " 3<&-; " + inspect + " " + path + " >&4");
  CHECK(closed.code == 1);
  CHECK(closed.err.find("standard output") != std::string::npos);
}

TEST_CASE("inspect: a file-size limit met within a record leaves the whole records before it") {
  const std::string path = sound_file(), json = scratch_folder() + "/out.jsonl";
  REQUIRE(run_program({"inspect", path, "--json", json}).code == 0);
  const auto one_record = static_cast<int64_t>(std::filesystem::file_size(json));
  const ProgramResult limited =
      run_program({"inspect", path, path, "--json", json}, {.file_size_limit = one_record + one_record / 2});
  CAPTURE(limited.err);
  CHECK(limited.code == 1);
  CHECK(limited.err.find("File too large") != std::string::npos);
  CHECK(std::filesystem::file_size(json) == static_cast<uintmax_t>(one_record));
}

}  // namespace parabola::inspect_test
