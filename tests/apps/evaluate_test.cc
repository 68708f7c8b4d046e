// The app evaluate, run as a user runs it.
#include "tests/apps/cli.h"

namespace parabola {
namespace {

// An untrained model's weights, written by train.
std::string weights_of(const std::string& model) {
  const std::string out = scratch_folder();
  const ProgramResult result =
      run_program({"train", "--model", model, "--data", "synthetic", "--limit", "8", "--epochs", "0", "--out", out});
  REQUIRE_MESSAGE(result.code == 0, result.err);
  return out + "/model.safetensors";
}

}  // namespace

TEST_CASE("evaluate: a result with all keys, the same for every batch size and number of threads") {
  const Arguments command{"evaluate", "--model",  "convnext_mnist", "--weights", weights_of("convnext_mnist"),
                          "--data",   "synthetic"};
  const Json result = result_of(command + Arguments{"--limit", "100"});
  check_keys(result, {"model", "data", "images", "correct", "top1", "top5", "seconds"});
  CHECK(result.at("model") == "convnext_mnist");
  CHECK(result.at("data") == "synthetic");
  CHECK(result.at("images") == 100);
  CHECK(result.at("top1").number() == result.at("correct").number() / 100);
  CHECK(result.at("top5") >= result.at("top1"));
  const Json other = result_of(command + Arguments{"--limit", "100", "--batch", "7", "--threads", "1"});
  for (const char* key : {"images", "correct", "top5"}) CHECK(other.at(key) == result.at(key));
  CHECK(result_of(command + Arguments{"--split", "train", "--limit", "3"}).at("images") == 3);
}

TEST_CASE("evaluate: wrong input is refused with one line") {
  const std::string weights = weights_of("mlp"), resnet = weights_of("resnet20");
  const auto refused = [](const Arguments& arguments, const std::string& about) {
    CAPTURE(about);
    const ProgramResult result = run_program(Arguments{"evaluate"} + arguments);
    CHECK(result.out == "");
    check_error(result, 2, about);
  };
  refused({"--model", "mlp", "--data", "synthetic"}, "--weights");
  refused({"--model", "mlp", "--weights", weights}, "--data");
  refused({"--model", "mpl", "--weights", weights, "--data", "synthetic"}, "did you mean mlp?");
  refused({"--model", "mlp", "--weights", weights, "--data", "synthetic", "--bach", "3"}, "did you mean --batch?");
  refused({"--model", "mlp", "--weights", weights, "--data", "synthetic", "--epochs", "3"}, "--epochs");
  refused({"--model", "mlp", "--weights", "no-such-file", "--data", "synthetic"}, "no-such-file");
  refused({"--model", "mlp", "--weights", resnet, "--data", "synthetic"}, "holds a resnet20");
  refused({"--model", "resnet32", "--weights", resnet, "--data", "synthetic"}, "resnet20");
  refused({"--model", "mlp", "--weights", weights, "--data", "synthetic:7"}, "of another shape");
  refused({"--model", "mlp", "--weights", "Makefile", "--data", "synthetic"}, "Makefile");
}

}  // namespace parabola
