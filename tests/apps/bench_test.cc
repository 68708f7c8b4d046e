// The app bench, run as a user runs it. Times are not looked at: they are the machine's.
#include "apps/common/op_bench.h"
#include "tests/apps/cli.h"

namespace parabola::bench_test {
namespace {

void check_bench(const Json& result, const std::string& model, const std::string& mode) {
  check_keys(result, {"model", "mode", "batch", "threads", "device", "dtype", "checkpoint", "step_ms_median",
                      "step_ms_min", "images_per_second", "peak_activation_bytes", "saved_activation_bytes", "flops",
                      "gflops_per_second", "replay_flops", "minor_faults"});
  CHECK(result.at("model") == model);
  CHECK(result.at("mode") == mode);
  CHECK(result.at("device") == "cpu");
  CHECK(result.at("dtype") == "f32");
  CHECK(result.at("flops") > 0);
  CHECK(result.at("peak_activation_bytes") >= result.at("saved_activation_bytes"));
  CHECK(result.at("step_ms_median") >= result.at("step_ms_min"));
}

}  // namespace

TEST_CASE("bench: a training step of an adapted model, kept and replayed") {
  const Arguments command{"bench", "--model", "convnext_mnist", "--adapt", "--batch", "4", "--threads", "1"};
  const Json kept = result_of(command + Arguments{"--rank", "3", "--checkpoint", "none"});
  const Json replayed = result_of(command + Arguments{"--rank", "3", "--checkpoint", "blocks"});
  for (const Json& result : {kept, replayed}) {
    check_bench(result, "convnext_mnist", "train");
    CHECK(result.at("batch") == 4);
    CHECK(result.at("threads") == 1);
  }
  CHECK(kept.at("checkpoint") == "none");
  CHECK(kept.at("replay_flops") == 0);
  CHECK(replayed.at("replay_flops") > 0);
  CHECK(replayed.at("flops") >= kept.at("flops"));  // ops that keep x only compute a and b again in their backward
  CHECK(replayed.at("saved_activation_bytes") < kept.at("saved_activation_bytes"));
  CHECK(replayed.at("peak_activation_bytes") < kept.at("peak_activation_bytes"));
}

TEST_CASE("bench: --plan knows each policy's bytes and replayed work, and refuses what it cannot plan") {
  const Arguments model{"bench", "--model", "convnext_mnist", "--adapt", "--batch", "4"};
  const ProgramResult run = run_program(model + Arguments{"--plan", "--json", "-"});
  REQUIRE_MESSAGE(run.code == 0, run.err);
  const std::vector<Json> plans = records_in(run.out);
  REQUIRE(plans.size() > 4);
  const Json measured = result_of(model + Arguments{"--checkpoint", "blocks"});
  CHECK(plans[2].at("checkpoint") == "blocks");
  for (const char* key : {"peak_activation_bytes", "saved_activation_bytes", "replay_flops"})
    CHECK_MESSAGE(plans[2].at(key) == measured.at(key), key);
  // Then budgets, from what is needed to keep all down to the least that is possible.
  double replayed = 0;
  CHECK(plans[3].at("replay_flops") == 0);
  for (size_t i = 3; i < plans.size(); ++i) {
    CHECK(plans[i].at("checkpoint") == "auto");
    CHECK(plans[i].at("peak_activation_bytes") <= plans[i].at("memory_budget"));
    CHECK(plans[i].at("replay_flops").number() >= replayed);
    replayed = plans[i].at("replay_flops");
  }
  const Json least = result_of(model + Arguments{"--memory-budget", plans.back().at("memory_budget").text()});
  for (const char* key : {"peak_activation_bytes", "saved_activation_bytes", "replay_flops"})
    CHECK_MESSAGE(plans.back().at(key) == least.at(key), key);
  for (const Arguments& with : {Arguments{"--mode", "infer"}, Arguments{"--checkpoint", "none"}})
    check_error(run_program(model + Arguments{"--plan"} + with), 2, "--plan: no effect with " + with[0]);
}

TEST_CASE("bench: --profile accounts for every kernel of a step, in a table, a drawing and records") {
  const std::string folder = scratch_folder();
  const ProgramResult run =
      run_program({"bench", "--model", "convnext_mnist", "--batch", "2", "--profile", "--json", "profile.jsonl"},
                  {.directory = folder});
  REQUIRE_MESSAGE(run.code == 0, run.err);
  const std::vector<Json> records = records_in(read_file(folder + "/profile.jsonl"));
  double flops = 0;
  for (const Json& record : records) {
    if (record.at("event") != "kernel") continue;
    CHECK(record.at("ms").number() > 0);
    CHECK(run.out.find(record.at("kernel").text() + " ") != std::string::npos);
    if (!record.at("kernel").text().ends_with(" replay")) flops += record.at("flops").number();
  }
  CHECK(flops == doctest::Approx(records.back().at("flops").number()));
  CHECK(run.out.find("between kernels") != std::string::npos);
  CHECK(read_file(folder + "/profile.svg").find("layer_norm backward") != std::string::npos);
}

TEST_CASE("bench: --fit finds the largest batch within a budget, and a budget that cannot be kept is refused") {
  const Arguments model{"bench", "--model", "mlp"};
  const Json fit = result_of(model + Arguments{"--fit", "--memory-budget", "1MB"});
  CHECK(fit.at("peak_activation_bytes") <= 1'000'000);
  const int64_t batch = fit.at("batch");
  const auto plan = [&](int64_t images) {
    return run_program(model + Arguments{"--plan", "--memory-budget", "1MB", "--batch", std::to_string(images)});
  };
  CHECK(plan(batch).code == 0);
  check_error(plan(batch + 1), 2, "--memory-budget: got 1000000 bytes (976.6 KiB), expected at least ");
  check_error(run_program(model + Arguments{"--fit", "--memory-budget", "1"}), 2, "for a batch of 1; ");
  check_error(run_program(model + Arguments{"--fit", "--memory-budget", "100TB"}), 2,
              "does not bound the batch: even ");
}

TEST_CASE("bench: a step's physical memory is the plan's peak, within a tenth and 16 MiB") {
  if (sanitized()) SKIP("sanitizers hold memory of their own");
  std::vector<std::string> models = {"qresnet14"};
  if (long_tests()) models.insert(models.end(), {"quadranet_cifar", "convnext_cifar", "resnet20"});
  for (const std::string& model : models) {
    CAPTURE(model);
    const Arguments command{"bench", "--model", model, "--batch", "32"};
    const ProgramResult run = run_program(command + Arguments{"--plan", "--json", "-"});
    REQUIRE_MESSAGE(run.code == 0, run.err);
    const std::vector<Json> plans = records_in(run.out);
    // The first, which keeps all, and the last, the smallest budget.
    for (size_t i = 0; i < plans.size(); i += plans.size() - 1) {
      const Arguments policy = plans[i].contains("memory_budget")
                                   ? Arguments{"--memory-budget", plans[i].at("memory_budget").text()}
                                   : Arguments{"--checkpoint", plans[i].at("checkpoint")};
      CAPTURE(policy[1]);
      const double peak = plans[i].at("peak_activation_bytes");
      const Json step = result_of(command + policy);
      CHECK(step.at("peak_activation_bytes") == peak);
      REQUIRE(step.contains("resident_bytes"));
      CHECK(step.at("resident_bytes") <= 1.1 * peak + 16.0 * (1 << 20));
      CHECK(step.at("resident_bytes") >= 0.9 * peak);
    }
  }
}

TEST_CASE("bench: --image-size gives the model images of another size") {
  const Arguments model{"bench", "--model", "resnet20", "--mode", "infer", "--batch", "1"};
  const double own = result_of(model).at("flops"),
               twice = result_of(model + Arguments{"--image-size", "64"}).at("flops");
  CHECK(twice / own == doctest::Approx(4).epsilon(0.01));
}

TEST_CASE("bench: inference keeps nothing") {
  const Json result = result_of({"bench", "--model", "mlp", "--mode", "infer", "--batch", "4"});
  check_bench(result, "mlp", "infer");
  CHECK(result.at("saved_activation_bytes") == 0);
  // Two flops a weight and image; bias and ReLU add less than a hundredth.
  const double least = 4 * 2 * (784.0 * 512 + 512 * 512 + 512 * 10);
  CHECK(result.at("flops") >= least);
  CHECK(result.at("flops") < 1.01 * least);
}

TEST_CASE("bench: an op alone, forward, backward and both") {
  const ProgramResult run =
      run_program({"bench", "--op", "cross_entropy", "--batch", "2", "--threads", "1", "--json", "-"});
  REQUIRE_MESSAGE(run.code == 0, run.err);
  const Json record = records_in(run.out).at(0);
  check_keys(record, {"op",
                      "sizes",
                      "mode",
                      "batch",
                      "threads",
                      "device",
                      "dtype",
                      "checkpoint",
                      "step_ms_median",
                      "step_ms_min",
                      "images_per_second",
                      "peak_activation_bytes",
                      "saved_activation_bytes",
                      "flops",
                      "gflops_per_second",
                      "forward_ms_median",
                      "backward_ms_median",
                      "bytes_per_second",
                      "most_flops_per_second",
                      "most_bytes_per_second"});
  CHECK(record.at("op") == "cross_entropy");
  CHECK(record.at("batch") == 2);
  CHECK(record.at("most_flops_per_second") > 0);
  CHECK(record.at("most_bytes_per_second") > 0);

  for (const OpBench& row : op_benches("all")) {
    CAPTURE(row.op->name);
    CAPTURE(row.sizes);
    const auto measured = [&](OpPass pass) { return measure_op(row, 2, {}, pass, 0); };
    const Measurement forward = measured(OpPass::forward), both = measured(OpPass::both),
                      backward = measured(OpPass::backward);
    CHECK(forward.work.bytes > 0);
    CHECK((both.work.bytes > forward.work.bytes) == (row.gradients != 0));
    CHECK(backward.work.bytes == doctest::Approx(both.work.bytes - forward.work.bytes));
    CHECK(both.peak_bytes >= both.saved_bytes);
  }
}

TEST_CASE("bench: wrong input is refused with one line") {
  check_error(run_program({"bench"}), 2, "--model");
  check_error(run_program({"bench", "--model", "resnet21"}), 2, "did you mean resnet20?");
  check_error(run_program({"bench", "--model", "mlp", "--rank", "2"}), 2, "--adapt");
  check_error(run_program({"bench", "--model", "mlp", "--adapt"}), 2, "no convolution");
  check_error(run_program({"bench", "--model", "mlp", "--op", "gelu"}), 2, "--op: no effect with --model");
  check_error(run_program({"bench", "--op", "gelu", "--image-size", "64"}), 2, "--op: no effect with --image-size");
  check_error(run_program({"bench", "--model", "mlp", "--image-size", "32"}), 2, "784");
  check_error(run_program({"bench", "--op", "gellu"}), 2, "did you mean gelu?");
  check_error(run_program({"bench", "--model", "mlp", "--dtype", "bf16"}), 2, "not built yet");
}

}  // namespace parabola::bench_test
