#include "engine/tape/report.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "engine/core/error.h"

namespace parabola {
namespace {

// Explicit marks win over the run's policy, and that over the op's default (Tape::recomputes): a node that does not
// follow the latter two was marked.
std::string reason(const Node& node, Checkpoint checkpoint) {
  if (checkpoint == Checkpoint::automatic) return "policy auto";
  const bool by_default = node.op->policy == Policy::recompute;
  const bool unmarked = checkpoint == Checkpoint::standard ? by_default : checkpoint == Checkpoint::blocks;
  if ((node.policy == Policy::recompute) != unmarked) return "marked";
  return checkpoint == Checkpoint::standard ? "default of its op" : concat("policy ", name_of(checkpoint));
}

std::string scaled(double value, double base, std::span<const char* const> units) {
  size_t unit = 0;
  for (; value >= base && unit + 1 < units.size(); ++unit) value /= base;
  char text[48];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
  return text;
}
std::string bytes_or_dash(size_t bytes) { return bytes ? bytes_text(bytes) : "-"; }
std::string flops_text(double flops) {
  constexpr std::array units = {"", "k", "M", "G", "T"};
  return flops > 0 ? scaled(flops, 1000, units) : "-";
}

using Cells = std::array<std::string, 8>;
constexpr std::array right_aligned = {true, false, false, false, false, true, true, false};

std::string table_of(const std::vector<Cells>& rows) {
  std::array<size_t, std::tuple_size_v<Cells>> widths{};
  for (const Cells& cells : rows)
    for (size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], cells[i].size());
  std::string text;
  for (const Cells& cells : rows) {
    std::string line;
    for (size_t i = 0; i < cells.size(); ++i) {
      const std::string blanks(widths[i] - cells[i].size(), ' ');
      line += (i ? "  " : "") + (right_aligned[i] ? blanks + cells[i] : cells[i] + blanks);
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

}  // namespace

std::string_view name_of(Fate fate) {
  constexpr std::array names = {"saved", "recomputed", "freed", "view"};
  return names[static_cast<size_t>(fate)];
}

StepReport::StepReport(const Tape& tape) : checkpoint(tape.options_.checkpoint) {
  if (tape.finished())
    fail<UsageError>("report", "this tape has run backward, expected one between forward and backward");
  const auto value = [&](int index) -> const Tape::Value& { return tape.values_[static_cast<size_t>(index)]; };
  std::vector<int> producers(tape.values_.size(), -1);
  for (size_t n = 0; n < tape.nodes_.size(); ++n)
    for (int output : tape.nodes_[n].outputs) producers[static_cast<size_t>(output)] = static_cast<int>(n);

  for (const Node& node : tape.nodes_) {
    const Storage& storage = *value(node.outputs[0]).storage;
    Row row{.op = node.op->name, .scope = node.scope, .shape = value(node.outputs[0]).shape};
    for (int input : node.inputs)
      if (input >= 0)
        row.inputs.push_back({producers[static_cast<size_t>(input)], value(input).shape,
                              value(input).storage->category(), value(input).leaf && value(input).needs_gradient});
    if (node.op->view) {
      row.fate = Fate::view;
    } else {
      for (const auto* list : {&node.outputs, &node.auxiliary})
        for (int result : *list) {
          const Storage& bytes = *value(result).storage;
          if (list == &node.outputs) row.bytes += bytes.bytes();
          if (bytes.resident()) row.saved_bytes += bytes.bytes();
        }
      if (storage.resident()) {
        row.fate = Fate::saved;
        const bool kept = node.policy == Policy::recompute && storage.policy == Policy::save;  // by CheckpointScope
        row.why = storage.handles() > 0 ? "the program holds it" : kept ? "input of a block" : reason(node, checkpoint);
      } else if (!storage.dead()) {
        row.fate = Fate::recomputed;
        row.why = reason(node, checkpoint);
        recomputed_bytes += row.bytes;
        replay_flops += node.cost.forward.flops;
      } else {
        row.why = "backward does without";
        freed_bytes += row.bytes;
      }
    }
    row.flops = node.cost.forward.flops;
    row.backward_flops = node.gradient_mask ? node.cost.backward.flops : 0;
    saved_bytes += row.saved_bytes;
    flops += row.flops;
    backward_flops += row.backward_flops;
    rows.push_back(std::move(row));
  }
}

std::string report(const Tape& tape) {
  const StepReport step(tape);
  std::vector<Cells> cells = {{"node", "op", "scope", "output", "fate", "saved", "FLOP", "why"}};
  for (size_t i = 0; i < step.rows.size(); ++i) {
    const StepReport::Row& row = step.rows[i];
    cells.push_back({std::to_string(i), std::string(row.op), row.scope, row.shape.str(), std::string(name_of(row.fate)),
                     bytes_or_dash(row.saved_bytes), flops_text(row.flops), row.why});
  }
  return concat(table_of(cells), "\npolicy ", name_of(step.checkpoint), ": saved ", bytes_or_dash(step.saved_bytes),
                ", recomputed ", bytes_or_dash(step.recomputed_bytes), ", freed ", bytes_or_dash(step.freed_bytes),
                "\nFLOP: forward ", flops_text(step.flops), ", backward ", flops_text(step.backward_flops),
                ", replayed ", flops_text(step.replay_flops), "\n");
}

}  // namespace parabola
