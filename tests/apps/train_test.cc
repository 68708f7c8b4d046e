// The app train, run as a user runs it: what it writes, refuses, survives, and that a run can be repeated.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include "apps/common/flags.h"
#include "engine/io/safetensors.h"
#include "tests/apps/cli.h"

namespace parabola::train_test {
namespace {

const Arguments mlp{"train", "--model", "mlp", "--data", "synthetic", "--limit", "64", "--batch", "16"};
// Three epochs of 16 small steps: long enough to be interrupted at a given place.
const Arguments convnext{"train",   "--model", "convnext_mnist", "--data", "synthetic",
                         "--limit", "64",      "--batch",        "4",      "--epochs",
                         "3",       "--lr",    "1e-3",           "--seed", "7"};

// Starts an app, waits until the shell's test `[ condition path ]` holds, and kills it as a power failure would.
void interrupt(const Arguments& arguments, const std::string& condition, const std::string& path) {
  const std::string script =
      "condition=$1 path=$2; shift 2; \"$@\" >/dev/null & pid=$!\n"
      "until [ $condition \"$path\" ]; do kill -0 $pid || break; sleep 0.005; done\n"
      "kill -KILL $pid; wait $pid";
  Arguments command{"/bin/sh", "-c", script, "sh", condition, path, build_folder() + "/bin/" + arguments[0]};
  command.insert(command.end(), arguments.begin() + 1, arguments.end());
  const ProgramResult result = run_program(command);
  REQUIRE_MESSAGE(result.code == 128 + 9, "the run was over before it could be interrupted: ", result.err);
}

Json without_times(Json record) {
  for (const char* key : {"seconds", "images_per_second"}) record.erase(key);
  return record;
}

std::vector<Json> log_of(const std::string& folder) {
  std::vector<Json> records = records_in(read_file(folder + "/log.jsonl"));
  for (Json& record : records) record = without_times(record);
  return records;
}

std::string new_folder() { return scratch_folder() + "/run"; }

}  // namespace

TEST_CASE("train: writes the model, its log, its curves and its state, and a result with all keys") {
  const std::string out = new_folder();
  const Json result = result_of(mlp + Arguments{"--epochs", "2", "--out", out});
  check_keys(result, {"model", "method", "epochs", "steps", "train_loss", "top1", "parameters", "trainable_parameters",
                      "seconds", "images_per_second", "peak_activation_bytes", "train_flops", "replay_flops"});
  CHECK(result.at("model") == "mlp");
  CHECK(result.at("epochs") == 2);
  CHECK(result.at("steps") == 8);
  CHECK(result.at("parameters") == 669706);
  CHECK(result.at("trainable_parameters") == 669706);
  CHECK(result.at("peak_activation_bytes") > 0);
  // 64 images, 2 epochs: 2 flops for each weight in forward, twice that in backward but for the first layer's dx; the
  // optimizer, biases and activations add less than a third.
  const double weights = 784.0 * 512 + 512 * 512 + 512 * 10, least = 2 * 64 * (6 * weights - 2 * 784 * 512);
  CHECK(result.at("train_flops") >= least);
  CHECK(result.at("train_flops") < 1.33 * least);

  CHECK(files_in(out) == std::set<std::string>{"curves.svg", "events.out.tfevents.0000000000.parabola", "log.jsonl",
                                               "memory.svg", "model.safetensors", "state/state.safetensors"});
  const std::vector<Json> log = log_of(out);
  REQUIRE(log.size() == 3);
  CHECK(log[0].at("event") == "epoch");
  CHECK(log[1].at("epoch") == 2);
  CHECK(log[2] == without_times(result));
  CHECK(read_file(out + "/curves.svg").starts_with("<svg"));
  CHECK(read_file(out + "/memory.svg").starts_with("<svg"));
  const Safetensors model(out + "/model.safetensors");
  CHECK(model.metadata().at("format") == "pt");
  CHECK(model.metadata().at("model") == "mlp");
  CHECK(model.metadata().at("classes") == "10");
  CHECK(model.metadata().contains("preprocessing"));
  CHECK_FALSE(model.metadata().contains("adapters"));
  // What it says of itself is what others measure.
  const Json score = result_of(
      {"evaluate", "--model", "mlp", "--weights", out + "/model.safetensors", "--data", "synthetic", "--limit", "64"});
  CHECK(score.at("top1") == result.at("top1"));
}

TEST_CASE("train: learns") {
  const Json result = result_of(with(mlp, "--limit", "256") + Arguments{"--epochs", "10"});
  CHECK(result.at("top1") > 0.5);  // ten classes
}

TEST_CASE("train: without --out nothing is written; --epochs 0 writes the untrained model") {
  const std::string out = new_folder();
  CHECK(run_program(mlp + Arguments{"--epochs", "1"}).code == 0);
  const Json result = result_of(mlp + Arguments{"--epochs", "0", "--out", out});
  CHECK(result.at("steps") == 0);
  CHECK(result.at("train_flops") == 0);
  CHECK(files_in(out).contains("model.safetensors"));
}

TEST_CASE("train: the same bits whatever the threads and the policy, others with another seed") {
  const std::string limit = sanitized() ? "10" : "40", batch = sanitized() ? "4" : "16";
  const Arguments command{"train",   "--model", "convnext_mnist", "--data", "synthetic", "--limit", limit,
                          "--batch", batch,     "--epochs",       "1",      "--lr",      "1e-2"};
  std::set<std::string> models, losses;
  for (const char* threads : {"1", "2"})
    for (const char* checkpoint : {"none", "default", "blocks"}) {
      const std::string out = new_folder();
      const Json result =
          result_of(command + Arguments{"--out", out, "--threads", threads, "--checkpoint", checkpoint});
      models.insert(read_file(out + "/model.safetensors"));
      losses.insert(result.at("train_loss").text());
      CHECK((result.at("replay_flops") > 0) == (std::string(checkpoint) != "none"));
    }
  // Under budgets, the last batch being a smaller one: from what keeps all to little above what does not work.
  const std::vector<Json> plans =
      records_in(run_program({"bench", "--model", "convnext_mnist", "--plan", "--batch", batch, "--json", "-"}).out);
  REQUIRE(plans.size() > 4);
  for (size_t i = 3; i < plans.size(); i += (plans.size() - 4) / 2) {
    const std::string out = new_folder();
    // The program's step multiplies the loss by its share: a few bytes more than the bench's.
    const auto budget = static_cast<int64_t>(plans[i].at("memory_budget").number()) + 64;
    const Json result = result_of(command + Arguments{"--out", out, "--memory-budget", std::to_string(budget)});
    models.insert(read_file(out + "/model.safetensors"));
    losses.insert(result.at("train_loss").text());
    CHECK(result.at("peak_activation_bytes") <= budget);
  }
  CHECK(models.size() == 1);
  CHECK(losses.size() == 1);
  const std::string out = new_folder();
  CHECK(result_of(command + Arguments{"--out", out, "--seed", "2"}).at("train_loss").text() != *losses.begin());
  CHECK(read_file(out + "/model.safetensors") != *models.begin());
}

TEST_CASE("train: batches whose gradients are accumulated make the step of one large batch") {
  // 100 images: 64 and 36, or 16 four times and 16, 16, 4. No BatchNorm, so an image does not know its batch.
  const Arguments command{"train",       "--model", "mlp",        "--data", "synthetic",  "--limit", "100",
                          "--optimizer", "sgd",     "--momentum", "0.9",    "--nesterov", "--lr",    "0.05",
                          "--schedule",  "step",    "--epochs",   "2",      "--warmup",   "0.5"};
  const std::string whole = new_folder(), parts = new_folder();
  const Json expected = result_of(command + Arguments{"--batch", "64", "--out", whole}),
             result = result_of(command + Arguments{"--batch", "16", "--accumulate", "4", "--out", parts});
  CHECK(result.at("steps") == 4);
  CHECK(expected.at("steps") == 4);
  CHECK(double(result.at("train_loss")) == doctest::Approx(double(expected.at("train_loss"))).epsilon(1e-6));
  CHECK(log_of(whole)[0].at("learning_rate") == log_of(parts)[0].at("learning_rate"));
  CHECK(result.at("peak_activation_bytes") < expected.at("peak_activation_bytes"));
  const Safetensors one(whole + "/model.safetensors"), other(parts + "/model.safetensors");
  for (const TensorEntry& entry : one.entries()) {
    CAPTURE(entry.name);
    std::vector<float> a(static_cast<size_t>(entry.shape.elements())), b(a.size());
    one.read(entry, DType::f32, reinterpret_cast<std::byte*>(a.data()), a.size() * sizeof(float));
    other.read(*other.find(entry.name), DType::f32, reinterpret_cast<std::byte*>(b.data()), b.size() * sizeof(float));
    double worst = 0;
    for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(double(a[i]) - double(b[i])));
    CHECK(worst < 1e-6);
  }
}

TEST_CASE("train: a run that was killed twice and resumed ends as one that ran straight through") {
  const std::string straight = new_folder(), broken = new_folder();
  const Json expected = result_of(convnext + Arguments{"--out", straight});

  interrupt(convnext + Arguments{"--out", broken, "--save-every", "0"}, "-e", broken + "/state/state.safetensors");
  CHECK_FALSE(files_in(broken).contains("model.safetensors"));
  interrupt(convnext + Arguments{"--out", broken, "--save-every", "0", "--resume", broken, "--threads", "1"}, "-s",
            broken + "/log.jsonl");  // within the second epoch
  const Json resumed = result_of(convnext + Arguments{"--resume", broken, "--checkpoint", "none", "--threads", "2"});

  CHECK(read_file(broken + "/model.safetensors") == read_file(straight + "/model.safetensors"));
  for (const char* key : {"epochs", "steps", "train_loss", "top1", "train_flops"}) {
    CAPTURE(key);
    CHECK(resumed.at(key) == expected.at(key));
  }
  const std::vector<Json> log = log_of(broken), full = log_of(straight);
  REQUIRE(log.size() == full.size());
  for (size_t i = 0; i + 1 < log.size(); ++i) CHECK(log[i] == full[i]);
}

TEST_CASE("train: resuming a complete run ends at once; resuming nothing starts") {
  const std::string out = new_folder();
  const Arguments command = mlp + Arguments{"--epochs", "1"};
  const Json first = result_of(command + Arguments{"--out", out, "--resume", scratch_folder()});
  CHECK(first.at("steps") == 4);
  const std::string model = read_file(out + "/model.safetensors"), log = read_file(out + "/log.jsonl");
  CHECK(result_of(command + Arguments{"--resume", out}) == first);  // times too: nothing was run
  CHECK(read_file(out + "/model.safetensors") == model);
  CHECK(read_file(out + "/log.jsonl") == log);
  check_error(run_program(command + Arguments{"--resume", out, "--lr", "0.5"}), 2, "another run");
  CHECK(read_file(out + "/model.safetensors") == model);
}

TEST_CASE("train: a finished run is not overwritten without --force") {
  const std::string out = new_folder();
  const Arguments command = mlp + Arguments{"--epochs", "0", "--out", out};
  REQUIRE(run_program(command).code == 0);
  const std::string model = read_file(out + "/model.safetensors");
  check_error(run_program(command + Arguments{"--seed", "2"}), 2, "--force");
  CHECK(read_file(out + "/model.safetensors") == model);
  CHECK(run_program(command + Arguments{"--seed", "2", "--force"}).code == 0);
  CHECK(read_file(out + "/model.safetensors") != model);
}

TEST_CASE("train: wrong input is refused with one line, and leaves nothing behind") {
  const std::string folder = scratch_folder(), file = folder + "/file";
  std::ofstream(file) << "text";
  const auto refused = [&](const Arguments& arguments, const std::string& about) {
    CAPTURE(about);
    const std::string out = new_folder();
    check_error(run_program(arguments + Arguments{"--out", out}), 2, about);
    CHECK_FALSE(std::filesystem::exists(out));
  };
  refused({"train", "--model", "resnet21", "--data", "synthetic"}, "did you mean resnet20?");
  refused({"train", "--model", "mlp"}, "--data");
  refused({"train", "--data", "synthetic"}, "--model");
  refused({"train", "--model", "mlp", "--data", "synthetics"}, "synthetics");
  refused({"train", "--model", "mlp", "--data", "cifar10:" + folder}, folder);
  refused({"train", "--model", "mlp", "--data", "synthetic", "--epochs", "-1"}, "--epochs");
  refused({"train", "--model", "mlp", "--data", "synthetic", "--nesterov"}, "--nesterov: no effect with adamw");
  refused({"train", "--model", "mlp", "--data", "synthetic", "--rank", "2"}, "--rank");
  refused({"train", "--model", "mlp", "--data", "synthetic", "--memory-budget", "1"}, "for a batch of ");
  refused({"train", "--model", "mlp", "--data", "synthetic", "--device", "cuda:99"}, "--device");
  refused({"train", "--model", "mlp", "--data", "synthetic", "--weights", file}, file);
  refused({"train", "--model", "mlp", "--data", "synthetic", "--weights", folder + "/none"}, folder + "/none");
  check_error(run_program(mlp + Arguments{"--epochs", "0", "--out", file + "/below"}), 2, file + "/below");
  check_error(run_program(mlp + Arguments{"--epochs", "0", "--out", file}), 2, file);
  check_error(run_program(mlp + Arguments{"--epochs", "0", "--json", file + "/below"}), 2, file + "/below");
}

TEST_CASE("train: a file-size limit met while writing ends the run with exit 1 and nothing half-written") {
  for (const char* epochs : {"0", "1"}) {  // met by the model, by the state
    CAPTURE(epochs);
    const std::string out = new_folder();
    const ProgramResult result =
        run_program(mlp + Arguments{"--epochs", epochs, "--out", out}, {.file_size_limit = 1 << 20});
    check_error(result, 1, "File too large");
    for (const std::string& file : files_in(out)) {
      CAPTURE(file);
      CHECK((file == "log.jsonl" || file == "curves.svg" || file == "memory.svg" ||
             file.starts_with("events.out.tfevents.")));
    }
  }
}

TEST_CASE("train: a loss that is no number ends the run with exit 1") {
  const std::string out = new_folder();
  check_error(run_program(mlp + Arguments{"--epochs", "5", "--optimizer", "sgd", "--lr", "1e30", "--clip", "0",
                                          "--warmup", "0", "--out", out}),
              1, "--lr");
  CHECK_FALSE(files_in(out).contains("model.safetensors"));
}

TEST_CASE("train: --list-models names every model, --help every flag") {
  const ProgramResult list = run_program({"train", "--list-models"}), help = run_program({"train", "--help"});
  CHECK(list.code == 0);
  CHECK(help.code == 0);
  for (const char* model : {"resnet20", "resnet110", "qresnet14", "convnext_cifar", "quadranet_cifar", "qmlp"})
    CHECK(list.out.find(model) != std::string::npos);
  for (const char* flag : {"--model", "--resume", "--checkpoint", "--save-every"})
    CHECK(help.out.find(flag) != std::string::npos);
}

}  // namespace parabola::train_test
