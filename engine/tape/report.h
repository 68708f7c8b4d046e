// What a recorded step keeps, what it will compute again, and why: for people and for drawings.
//
//   Tensor loss = cross_entropy(model(images), labels);
//   std::cout << report(tape);    // between forward and backward, which frees as it goes
//   tape.backward(loss);
#pragma once
#include <string>
#include <vector>

#include "engine/tape/tape.h"

namespace parabola {

// What has become of a node's output by now.
enum class Fate : uint8_t {
  saved,       // its bytes stay
  recomputed,  // evicted; replayed when backward asks
  freed,       // nothing reads it any more
  view         // shares the bytes of its input
};
std::string_view name_of(Fate fate);

struct StepReport {
  struct Input {
    int node = -1;  // that computed it; -1: a parameter or a batch
    Shape shape;
    Category category = Category::activations;
    bool trains = false;  // a leaf whose gradient is wanted
  };
  struct Row {
    std::string_view op;
    std::string scope;
    Shape shape;  // of output 0
    std::vector<Input> inputs;
    Fate fate = Fate::freed;
    std::string why;         // "input of a block", "policy none", "marked", ...
    size_t bytes = 0;        // of all outputs
    size_t saved_bytes = 0;  // of them and of auxiliary results: what stays
    double flops = 0;        // forward
    double backward_flops = 0;
  };

  // UsageError where the tape has run backward: it has freed what there was to tell.
  explicit StepReport(const Tape& tape);

  std::vector<Row> rows;
  Checkpoint checkpoint;
  size_t saved_bytes = 0, recomputed_bytes = 0, freed_bytes = 0;
  double flops = 0, backward_flops = 0, replay_flops = 0;
};

// The rows as a table, then totals.
std::string report(const Tape& tape);

}  // namespace parabola
