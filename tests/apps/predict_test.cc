// The app predict, and image folders in train, adapt and evaluate, run as a user runs them.
#include <fstream>

#include "engine/io/safetensors.h"
#include "tests/apps/cli.h"
#include "tests/support/images.h"

namespace parabola::predict_test {
namespace {

// Two classes: dark and light images of several sizes.
std::string folder_of_images() {
  const std::string folder = scratch_folder();
  for (int i = 0; i < 12; ++i) {
    write_image(folder + "/train/dark/" + std::to_string(i) + ".bmp", 20 + i, 31, 10 + 3 * i);
    write_image(folder + "/train/light/" + std::to_string(i) + ".bmp", 33, 20 + i, 245 - 3 * i);
  }
  write_image(folder + "/test/dark/a.bmp", 40, 28, 30);
  write_image(folder + "/test/light/b.bmp", 28, 40, 220);
  return folder;
}

std::string file_with(const std::string& text) {
  std::string path = scratch_folder() + "/file.png";
  std::ofstream(path) << text;
  return path;
}

}  // namespace

TEST_CASE("predict: names and probabilities from a model that an image folder has taught") {
  const std::string folder = folder_of_images(), run = scratch_folder(), dark = folder + "/test/dark/a.bmp",
                    light = folder + "/test/light/b.bmp", data = "imagefolder:" + folder;
  const Json trained = result_of(
      {"train", "--model", "mlp", "--data", data, "--epochs", "6", "--batch", "8", "--warmup", "0", "--out", run});
  CHECK(trained.at("top1") == 1);
  const std::string weights = run + "/model.safetensors";
  CHECK(Safetensors(weights).metadata().at("class_names") == R"(["dark","light"])");
  CHECK(result_of({"evaluate", "--model", "mlp", "--weights", weights, "--data", data}).at("correct") == 2);
  CHECK(
      result_of({"adapt", "--model", "mlp", "--weights", weights, "--data", data, "--method", "head", "--epochs", "1"})
          .at("top1_before") == 1);

  const Arguments command{"predict", "--model", "mlp", "--weights", weights, light, dark};
  const ProgramResult shown = run_program(command);
  REQUIRE_MESSAGE(shown.code == 0, shown.err);
  CHECK(shown.out.starts_with(light + "\n"));
  CHECK(shown.out.find("%  light\n") < shown.out.find("%  dark\n"));
  const std::vector<Json> records = records_in(run_program(command + Arguments{"--json", "-"}).out);
  REQUIRE(records.size() == 2);
  CHECK(records[0].at("event") == "result");
  CHECK(records[0].at("file") == light);
  CHECK(records[0].at("top").size() == 2);  // of two classes
  CHECK(records[0].at("top")[0].at("class") == "light");
  CHECK(records[1].at("top")[0].at("class") == "dark");
  CHECK(records[1].at("top")[0].at("index") == 0);
  double sum = 0;
  for (const Json& one : records[1].at("top")) sum += one.at("probability").number();
  CHECK(sum == doctest::Approx(1).epsilon(1e-12));

  const Json named = result_of(command + Arguments{"--top", "1", "--classes", file_with("night\n\nday\n")});
  CHECK(named.at("top").size() == 1);
  CHECK(named.at("top")[0].at("class") == "night");

  const auto refused = [&](const Arguments& more, const std::string& about) {
    CAPTURE(about);
    check_error(run_program(command + more), 2, about);
  };
  refused({"no-such.png"}, "no-such.png");
  refused({file_with("no image")}, "cannot be decoded");
  refused({"--classes", file_with("one\n")}, "got 1, expected 2");
  refused({"--classes", "no-such"}, "no-such");
  check_error(run_program({"predict", "--model", "mlp", "--weights", weights}), 2, "IMAGE");
  check_error(run_program({"predict", "--model", "convnext_mnist", "--weights", weights, dark}), 2, "head.bias");
}

TEST_CASE("image folders: --skip-bad leaves bad images out and names them; without it they are the user's error") {
  const std::string folder = folder_of_images(), data = "imagefolder:" + folder;
  std::ofstream(folder + "/train/dark/11a.jpg") << "no image";
  std::ofstream(folder + "/test/light/c.png") << "";
  std::ofstream(folder + "/test/light/README") << "";
  const Arguments command{"train", "--model", "mlp", "--data", data, "--epochs", "1", "--batch", "8"};
  // The dry run trains on other images, and then comes to this one.
  check_error(run_program(command), 2, "/test/light/c.png] the file is empty");
  const ProgramResult run = run_program(command + Arguments{"--skip-bad", "--json", "-"});
  REQUIRE_MESSAGE(run.code == 0, run.err);
  CHECK(records_in(run.out).back().at("skipped_images") == 2);
  CHECK(run.err.find("note    1 file left out") != std::string::npos);
  CHECK(run.err.find("skipped 1 of 25 images of imagefolder train\n") != std::string::npos);
  CHECK(run.err.find("/train/dark/11a.jpg] cannot be decoded") != std::string::npos);
  CHECK(run.err.find("/test/light/c.png] the file is empty") != std::string::npos);
  CHECK(run.err.find(", 24 training and 2 test images, resized to 28x28") != std::string::npos);
}

}  // namespace parabola::predict_test
