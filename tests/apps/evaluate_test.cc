// The app evaluate, run as a user runs it.
#include "tests/apps/cli.h"

namespace parabola::evaluate_test {
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

TEST_CASE("evaluate: a folded model is saved, evaluates and predicts as before, and does not train") {
  const std::string out = scratch_folder();
  const Arguments data{"--data", "synthetic", "--limit", sanitized() ? "20" : "100"};
  for (const char* method : {"none", "quadratic", "lora"}) {
    CAPTURE(method);
    const std::string run = out + "/" + method, folded = run + "/folded.safetensors",
                      again = run + "/again.safetensors";
    const Arguments model{"--model", "resnet20", "--weights"};
    const ProgramResult adapted =
        run_program(Arguments{"adapt"} + model + Arguments{weights_of("resnet20")} + with(data, "--limit", "32") +
                    Arguments{"--epochs", "1", "--method", method, "--out", run});
    REQUIRE_MESSAGE(adapted.code == 0, adapted.err);
    const Arguments evaluate = Arguments{"evaluate"} + model;
    const Json before = result_of(evaluate + Arguments{run + "/model.safetensors", "--save-folded", folded} + data);
    const Json after = result_of(evaluate + Arguments{folded, "--save-folded", again} + data);
    for (const char* key : {"images", "correct", "top5"}) CHECK(after.at(key) == before.at(key));
    CHECK(read_file(again) == read_file(folded));
    const Json file = result_of({"inspect", folded});
    CHECK(file.at("metadata").at("folded") == "true");
    CHECK(file.at("metadata").contains("adapters") == (method == std::string("quadratic")));
    CHECK(file.at("metadata").at("class_names") ==
          result_of({"inspect", run + "/model.safetensors"}).at("metadata").at("class_names"));
    for (const Json& tensor : file.at("tensors")) CHECK(tensor.at("name").text().find("bn") == std::string::npos);
    for (const char* app : {"train", "adapt"})
      check_error(run_program(Arguments{app} + model + Arguments{folded} + data), 2, "folded for inference");
  }
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
  refused({"--model", "mlp", "--weights", weights, "--data", "synthetic", "--save-folded", "no-such-folder/file"},
          "no-such-folder");
}

}  // namespace parabola::evaluate_test
