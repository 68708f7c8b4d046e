// The drawing of a step: sound text for Graphviz, every op in it, frames for the model's parts.
#include <algorithm>

#include "apps/common/graph.h"

#include "tests/apps/cli.h"

namespace parabola::graph_test {

TEST_CASE("graph: bench draws a training step of an adapted model") {
  const std::string file = scratch_folder() + "/step.dot";
  result_of({"bench", "--model", "convnext_mnist", "--adapt", "--batch", "1", "--threads", "1", "--graph", file});
  const std::string dot = read_file(file);
  CHECK(dot.starts_with("digraph"));
  CHECK(std::count(dot.begin(), dot.end(), '{') == std::count(dot.begin(), dot.end(), '}'));
  for (const char* part : {"cluster_stages.0.0", "quadratic_depthwise_conv2d", "cross_entropy", "saved", "recomputed",
                           "1×28×28×1", "trained", "frozen", "n0 -> n1 "})
    CHECK_MESSAGE(dot.find(part) != std::string::npos, part);
  CHECK(dot.find("cluster_stages\"") == std::string::npos);  // its ops do not follow one another
}

TEST_CASE("graph: what cannot be drawn is refused") {
  const std::string folder = scratch_folder();
  const Arguments bench{"bench", "--model", "mlp", "--batch", "1"};
  check_error(run_program(bench + Arguments{"--graph", folder + "/step.pdf"}), 2, "--graph");
  check_error(run_program(bench + Arguments{"--graph", folder + "/none/step.dot"}), 2, folder + "/none");
  check_error(run_program(bench + Arguments{"--mode", "infer", "--graph", folder + "/step.dot"}), 2, "--graph");
  // On a machine without Graphviz.
  check_error(run_program({"/usr/bin/env", "PATH=/nowhere", build_folder() + "/bin/bench", "--model", "mlp", "--batch",
                           "1", "--graph", folder + "/step.svg"}),
              2, "Graphviz");
  CHECK(files_in(folder).empty());
}

}  // namespace parabola::graph_test
