// The app demo, run as a user runs it, on a small data set; and its parts: the shift, the table, the words, the curves.
#include <algorithm>
#include <fstream>
#include <map>

#include "apps/common/demo_report.h"
#include "apps/common/demo_shift.h"
#include "data/idx.h"
#include "data/synthetic.h"
#include "engine/io/safetensors.h"
#include "tests/apps/cli.h"

namespace parabola::demo_test {
namespace {

const std::vector<std::string> methods{"head", "lora", "quadratic", "full"};
const std::set<std::string> all_files{"base.safetensors",
                                      "head.safetensors",
                                      "lora.safetensors",
                                      "quadratic.safetensors",
                                      "full.safetensors",
                                      "result.jsonl",
                                      "curves.svg",
                                      "shifted/train-images-idx3-ubyte",
                                      "shifted/train-labels-idx1-ubyte",
                                      "shifted/t10k-images-idx3-ubyte",
                                      "shifted/t10k-labels-idx1-ubyte"};

// Clean training images.
int64_t images() { return sanitized() ? 40 : 400; }

// A folder in Fashion-MNIST's form: grey 28x28 images that a few steps can learn.
std::string small_data() {
  static const std::string folder = [] {
    const std::string path = scratch_folder();
    const auto write = [&](const char* stem, int first, int count) {
      const GreyImages images = shifted(*synthetic_dataset(stem, first, count, 10, 28, 28), shifted_levels(0));
      write_idx_pair(path, stem, 28, 28, images.pixels, images.labels);
    };
    write("train", 0, 500);
    write("t10k", 500, sanitized() ? 12 : 150);
    return path;
  }();
  return folder;
}

Arguments small_demo(const std::string& out) {
  return {"demo", "--data", small_data(), "--images", std::to_string(images()), "--epochs", "2", "--out", out};
}

// One demo for all the cases that only look at what it left.
struct Finished {
  std::string folder = scratch_folder() + "/new/demo", printed;
  std::map<std::string, Json> records;  // by method
};
const Finished& finished() {
  static const Finished run = [] {
    Finished demo;
    const ProgramResult result = run_program(small_demo(demo.folder));
    REQUIRE_MESSAGE(result.code == 0, result.err);
    CHECK(result.err == "");
    demo.printed = result.out;
    for (const Json& record : records_in(read_file(demo.folder + "/result.jsonl")))
      demo.records[record.at("method")] = record;
    return demo;
  }();
  return run;
}

}  // namespace

TEST_CASE("demo: leaves exactly the files that it speaks of, and one record a run") {
  const Finished& demo = finished();
  CHECK(files_in(demo.folder) == all_files);
  CHECK(demo.records.size() == 5);
  for (const auto& entry : demo.records) {
    const std::string& method = entry.first;
    const Json& record = entry.second;
    CAPTURE(method);
    check_keys(record, {"event", "model", "method", "epochs", "steps", "train_loss", "top1", "parameters",
                        "trainable_parameters", "seconds", "train_flops", "images_per_second", "data", "learning_rate",
                        "peak_activation_bytes", "replay_flops"});
    CHECK(record.contains("top1_before") == (method != "base"));
    CHECK(record.at("weights") == method + ".safetensors");
  }
  const auto steps = [](int64_t count) { return 2 * ((count + 31) / 32); };  // two epochs in batches of 32
  CHECK(demo.records.at("base").at("steps") == steps(images()));
  CHECK(demo.records.at("full").at("steps") == steps(images() * 2 / 5));
}

TEST_CASE("demo: evaluate says the same figures as the table") {
  const Finished& demo = finished();
  const std::string shifted = "fashion-mnist:" + demo.folder + "/shifted";
  const auto top1_of = [&](const std::string& weights, const std::string& data) {
    return result_of({"evaluate", "--model", "convnext_mnist", "--weights",
                      demo.folder + "/" + weights + ".safetensors", "--data", data})
        .at("top1");
  };
  const Json base = demo.records.at("base");
  CHECK(top1_of("base", "fashion-mnist:" + small_data()) == base.at("top1"));
  CHECK(top1_of("base", shifted) == base.at("top1_shifted"));
  for (const std::string& method : methods) {
    CAPTURE(method);
    const Json& record = demo.records.at(method);
    CHECK(record.at("top1_before") == base.at("top1_shifted"));
    CHECK(record.at("data") == shifted);
    CHECK(top1_of(method, shifted) == record.at("top1"));
  }
}

TEST_CASE("demo: quadratic adapters and LoRA have equally many trainable parameters, within 2%") {
  const auto trainable = [](const char* method) {
    return finished().records.at(method).at("trainable_parameters").number();
  };
  CHECK(std::abs(trainable("lora") / trainable("quadratic") - 1) < 0.02);
  CHECK(trainable("head") < trainable("lora"));
  CHECK(trainable("full") == trainable("base"));
}

TEST_CASE("demo: its runs are those of train and adapt, bit for bit") {
  if (sanitized()) SKIP("compares runs; the plain build does");
  const Finished& demo = finished();
  const auto rate = [&](const std::string& method) { return demo.records.at(method).at("learning_rate").text(); };
  const std::string out = scratch_folder();
  const ProgramResult trained =
      run_program({"train", "--model", "convnext_mnist", "--data", "fashion-mnist:" + small_data(), "--limit",
                   std::to_string(images()), "--epochs", "2", "--lr", rate("base"), "--out", out + "/base"});
  REQUIRE_MESSAGE(trained.code == 0, trained.err);
  CHECK(read_file(out + "/base/model.safetensors") == read_file(demo.folder + "/base.safetensors"));
  for (const std::string& method : methods) {
    CAPTURE(method);
    const ProgramResult adapted =
        run_program({"adapt", "--model", "convnext_mnist", "--weights", demo.folder + "/base.safetensors", "--data",
                     "fashion-mnist:" + demo.folder + "/shifted", "--limit", std::to_string(images() * 2 / 5),
                     "--epochs", "2", "--lr", rate(method), "--method", method, "--out", out + "/" + method});
    REQUIRE_MESSAGE(adapted.code == 0, adapted.err);
    CHECK(read_file(out + "/" + method + "/model.safetensors") ==
          read_file(demo.folder + "/" + method + ".safetensors"));
  }
}

TEST_CASE("demo: run again, with another number of threads, it leaves the same files") {
  if (sanitized()) SKIP("compares runs; the plain build does");
  const Finished& demo = finished();
  const std::string out = scratch_folder();
  std::ofstream(out + "/curves.svg") << "of an earlier run";
  std::ofstream(out + "/mine.txt") << "not the demo's";
  const ProgramResult result = run_program(small_demo(out) + Arguments{"--threads", "1"});
  REQUIRE_MESSAGE(result.code == 0, result.err);
  for (const std::string& file : all_files) {
    CAPTURE(file);
    if (file != "result.jsonl") CHECK(read_file(out + "/" + file) == read_file(demo.folder + "/" + file));
  }
  CHECK(read_file(out + "/mine.txt") == "not the demo's");
  // Records differ in what the clock says and in the folder's name.
  for (Json record : records_in(read_file(out + "/result.jsonl"))) {
    Json other = demo.records.at(record.at("method"));
    for (const char* key : {"seconds", "images_per_second", "data", "peak_activation_bytes"})
      record.erase(key), other.erase(key);
    CHECK(record == other);
  }
}

TEST_CASE("demo: prints the table of its records, and commands that work") {
  const Finished& demo = finished();
  for (const std::string& method : methods) {
    const double top1 = demo.records.at(method).at("top1");
    char percent[16];
    std::snprintf(percent, sizeof percent, "%.2f%%", 100 * top1);
    CHECK(demo.printed.find(percent) != std::string::npos);
  }
  CHECK(demo.printed.find("evaluate --model convnext_mnist --weights " + demo.folder + "/quadratic.safetensors") !=
        std::string::npos);
  CHECK(run_program({"inspect", demo.folder + "/quadratic.safetensors"}).code == 0);
  CHECK(Safetensors(demo.folder + "/quadratic.safetensors").metadata().contains("adapters"));
}

TEST_CASE("demo: wrong input is refused with one line and leaves nothing") {
  const std::string folder = scratch_folder(), out = folder + "/out";
  std::ofstream(folder + "/file") << "a file";
  check_error(run_program(with(small_demo(out), "--data", folder)), 2, "no IDX labels");
  check_error(run_program(with(small_demo(out), "--data", folder)), 2, "dataset-fashion-mnist");
  check_error(run_program(with(small_demo(out), "--images", "480")), 2, "--images: got 480, expected at most 452");
  check_error(run_program(with(small_demo(out), "--images", "0")), 2, "--images: got \"0\"");
  check_error(run_program(with(small_demo(out), "--epochs", "0")), 2, "--epochs: got \"0\"");
  check_error(run_program(small_demo(out) + Arguments{"--epoch", "1"}), 2, "did you mean --epochs?");
  check_error(run_program(small_demo(out) + Arguments{"--model", "mlp"}), 2, "--model: not a flag of demo");
  CHECK(files_in(folder) == std::set<std::string>{"file"});
  check_error(run_program(small_demo(folder + "/file/below")), 2, "--out");
  check_error(run_program(small_demo(folder + "/file")), 2, "--out");
  CHECK(read_file(folder + "/file") == "a file");
  CHECK(run_program({"demo", "--help"}).out.find("Usage: demo [FLAGS]") != std::string::npos);
}

TEST_CASE("demo: a file that cannot be written whole is not there at all, nor is an earlier run's") {
  const std::string out = scratch_folder();
  std::ofstream(out + "/result.jsonl") << "of an earlier run";
  // Room for the shifted images of the test split, but for no weights.
  const ProgramResult result = run_program(small_demo(out), {.file_size_limit = 200000});
  check_error(result, 1, "base.safetensors");
  CHECK(files_in(out).empty());
}

TEST_CASE("demo: the shift is gamma 2.2, then inversion of the brighter half, blended in") {
  const Levels none = shifted_levels(0), half = shifted_levels(0.5), whole = shifted_levels(1),
               more = shifted_levels(1.25);
  for (size_t level = 0; level < 256; ++level) {
    const double v = static_cast<double>(level) / 255, g = std::pow(v, 2.2), f = g > 0.5 ? 1 - g : g;
    CAPTURE(level);
    CHECK(none[level] == level);
    CHECK(std::abs(whole[level] - 255 * f) <= 0.5001);
    CHECK(std::abs(half[level] - 255 * (0.5 * v + 0.5 * f)) <= 0.5001);
    CHECK(std::abs(more[level] - 255 * std::max(0.0, 1.25 * f - 0.25 * v)) <= 0.5001);
  }
  CHECK(whole[0] == 0);
  CHECK(whole[255] == 0);
  CHECK(whole[186] > 126);  // just before the fold at 255 * 2^(-1/2.2) = 186.1
}

TEST_CASE("demo: its words say what the figures say, and call no difference what chance explains") {
  const auto run = [](const char* method, int64_t trainable, int64_t correct) {
    DemoRun made{.method = method, .title = method, .learning_rate = 0.01, .trainable = trainable};
    made.result.test = {.images = 10000, .correct = correct};
    made.result.top1_before = 0.6;
    made.validation_top1 = made.result.test.top1();
    made.result.flops = 1e12;
    made.curves.epoch = {1, 2};
    made.curves.test_top1 = {0.65, made.result.test.top1()};
    made.curves.train_loss = {1, 0.5, 0.25, 0.125};
    made.curves.steps_per_epoch = 2;
    return made;
  };
  const DemoRun base = run("base", 200000, 8500);
  std::vector<DemoRun> adapted{run("head", 1000, 5900), run("lora", 10000, 7400), run("quadratic", 10100, 7350),
                               run("full", 200000, 8000)};
  std::string words = demo_verdict(base, adapted);
  CHECK(words.find("costs the base 25.0 points") != std::string::npos);
  CHECK(words.find("head -1.0, lora +14.0, quadratic +13.5, full +20.0") != std::string::npos);
  CHECK(words.find("are level at equal size (10,100 and 10,000 parameters)") != std::string::npos);
  CHECK(words.find("trained 5% of full") != std::string::npos);
  adapted[2].result.test.correct = 7600;  // twice the standard error of the difference is 1.2 points
  CHECK(demo_verdict(base, adapted).find("are 2.0 points ahead of LoRA") != std::string::npos);
  adapted[2].result.test.correct = 7200;
  CHECK(demo_verdict(base, adapted).find("are 2.0 points behind LoRA") != std::string::npos);

  CHECK(demo_table(base, adapted).find("quadratic  60.00%  72.00%     10,100           0.01") != std::string::npos);
  const std::string curves = demo_curves(base, adapted);
  for (const char* text : {"head", "lora", "quadratic", "full", "base, clean images", "85.0%"})
    CHECK(curves.find(text) != std::string::npos);
  adapted[1].trainable = 9000;  // no comparison at equal size any more
  CHECK_THROWS_AS(demo_verdict(base, adapted), std::logic_error);
}

}  // namespace parabola::demo_test
