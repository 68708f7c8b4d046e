#include "apps/common/graph.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "apps/common/svg.h"
#include "apps/common/text.h"
#include "engine/core/error.h"
#include "engine/io/atomic_file.h"

namespace parabola {
namespace {

// Light enough for black text; Okabe and Ito's hues, which people tell apart whatever their colour vision.
constexpr const char* saved_color = "#bfe3d4";
constexpr const char* recomputed_color = "#fbdcb0";
constexpr const char* freed_color = "#ffffff";
constexpr const char* view_color = "#eceff2";
constexpr const char* trained_color = "#bcdcf2";
constexpr const char* frozen_color = "#dde1e6";

const char* color_of(Fate fate) {
  constexpr std::array colors = {saved_color, recomputed_color, freed_color, view_color};
  return colors[static_cast<size_t>(fate)];
}

bool is_parameter(const StepReport::Input& input) { return input.node < 0 && input.category == Category::parameters; }

std::string in_quotes(std::string_view text) {
  std::string out = "\"";
  for (char c : text) out += (c == '"' || c == '\\' ? "\\" : "") + std::string(1, c);
  return out + "\"";
}

// "128×32×32×16": half as wide as the engine's own "[128, 32, 32, 16]".
std::string short_shape(const Shape& shape) {
  std::string text;
  for (int64_t size : shape.sizes()) text += (text.empty() ? "" : "×") + std::to_string(size);
  return text.empty() ? "scalar" : text;
}

// The tree of scopes. A part with several ops is a frame of its own; one with a single op is named in the op's box.
struct Part {
  std::string name;
  std::vector<size_t> rows;
  std::map<std::string, size_t> index;
  std::vector<Part> parts;  // in the order of the step
  size_t ops = 0, first = 0, last = 0;

  // Parts that others come between (ConvNeXt's "stages") would tear the order of the step: they get no frame.
  bool framed() const { return ops > 1 && last - first + 1 == ops; }

  void add(std::string_view scope, size_t row) {
    if (ops++ == 0) first = row;
    last = row;
    if (scope.empty()) return rows.push_back(row);
    const size_t dot = std::min(scope.find('.'), scope.size());
    const auto [found, fresh] = index.try_emplace(std::string(scope.substr(0, dot)), parts.size());
    if (fresh) parts.push_back({.name = found->first});
    parts[found->second].add(scope.substr(std::min(dot + 1, scope.size())), row);
  }
};

class Writer {
 public:
  explicit Writer(const StepReport& step) : step_(step) {}

  std::string draw(const std::string& title) {
    text_ =
        "digraph step {\n  rankdir=TB; nodesep=0.25; ranksep=0.3; fontname=\"Helvetica\"; labelloc=t;\n"
        "  node [shape=plain, fontname=\"Helvetica\", fontsize=12];\n"
        "  edge [fontname=\"Helvetica\", fontsize=10, fontcolor=\"#52606d\", color=\"#7b8794\", arrowsize=0.7];\n";
    text_ += "  label=<" + legend(title) + ">;\n";
    Part model;
    for (size_t i = 0; i < step_.rows.size(); ++i) model.add(step_.rows[i].scope, i);
    part(model, "", "", 1);
    edges();
    return text_ + "}\n";
  }

 private:
  static std::string cell(const std::string& content, const char* color, const char* more = "") {
    return concat("<TD BGCOLOR=\"", color, "\"", more, ">", content, "</TD>");
  }

  std::string legend(const std::string& title) const {
    const auto bytes = [](size_t n) { return format_bytes(static_cast<int64_t>(n)); };
    return concat("<TABLE BORDER=\"0\" CELLBORDER=\"1\" CELLSPACING=\"4\" CELLPADDING=\"5\" COLOR=\"#7b8794\">",
                  "<TR><TD COLSPAN=\"6\" BORDER=\"0\"><FONT POINT-SIZE=\"18\"><B>", svg::escape(title),
                  "</B></FONT></TD></TR><TR>", cell("saved<BR/>" + bytes(step_.saved_bytes), saved_color),
                  cell("recomputed<BR/>" + bytes(step_.recomputed_bytes), recomputed_color),
                  cell("freed<BR/>" + bytes(step_.freed_bytes), freed_color), cell("view<BR/>no bytes", view_color),
                  cell("parameter<BR/>trained", trained_color), cell("parameter<BR/>frozen", frozen_color),
                  "</TR></TABLE>");
  }

  void part(const Part& p, const std::string& path, const std::string& name, int depth) {
    const std::string indent(static_cast<size_t>(2 * depth), ' ');
    for (size_t row : p.rows) text_ += concat(indent, "n", row, " [label=<", box(row, name), ">];\n");
    for (const Part& inner : p.parts) {
      const std::string& child = inner.name;
      const std::string full = path.empty() ? child : path + "." + child;
      if (!inner.framed()) {
        part(inner, full, inner.ops == 1 ? only_name(inner, child) : "", depth);
        continue;
      }
      text_ +=
          concat(indent, "subgraph ", in_quotes("cluster_" + full), " {\n", indent, "  label=", in_quotes(full),
                 "; labeljust=l; fontsize=12; fontcolor=\"#52606d\"; style=\"rounded,filled\"; color=\"#cbd2d9\"; ",
                 "fillcolor=", depth % 2 ? "\"#f7f9fb\"" : "\"#ffffff\"", ";\n");
      part(inner, full, "", depth + 1);
      text_ += indent + "}\n";
    }
  }

  // "bn1.norm" for a chain of parts around a single op.
  static std::string only_name(const Part& p, const std::string& name) {
    return p.parts.empty() ? name : only_name(p.parts[0], name + "." + p.parts[0].name);
  }

  std::string box(size_t index, const std::string& name) const {
    const StepReport::Row& row = step_.rows[index];
    std::string head = "<B>" + svg::escape(row.op) + "</B>";
    if (!name.empty()) head += " <FONT COLOR=\"#52606d\">" + svg::escape(name) + "</FONT>";
    std::string rows = "<TR>" + cell(head, color_of(row.fate)) + "</TR>";
    // Parameters of one kind share a line: an adapter's host has many.
    for (const bool trains : {true, false}) {
      std::string shapes;
      for (const StepReport::Input& input : row.inputs)
        if (is_parameter(input) && input.trains == trains)
          shapes += (shapes.empty() ? "" : "<BR/>") + short_shape(input.shape);
      if (!shapes.empty())
        rows += "<TR>" + cell("<FONT POINT-SIZE=\"10\">" + shapes + "</FONT>", trains ? trained_color : frozen_color) +
                "</TR>";
    }
    return concat("<TABLE BORDER=\"0\" CELLBORDER=\"1\" CELLSPACING=\"0\" CELLPADDING=\"4\" COLOR=\"#7b8794\">", rows,
                  "</TABLE>");
  }

  void edges() {
    for (size_t i = 0; i < step_.rows.size(); ++i)
      for (const StepReport::Input& input : step_.rows[i].inputs) {
        if (is_parameter(input)) continue;
        const std::string label = " [label=" + in_quotes(" " + short_shape(input.shape)) + "];\n";
        if (input.node >= 0)
          text_ += concat("  n", input.node, " -> n", i, label);
        else
          text_ += concat("  in", i, " [shape=ellipse, label=\"batch\"];\n  in", i, " -> n", i, label);
      }
  }

  const StepReport& step_;
  std::string text_;
};

}  // namespace

std::string graph_dot(const StepReport& step, const std::string& title) { return Writer(step).draw(title); }

void check_graph_file(const std::string& file) {
  const std::string about = concat("--graph ", printable(file), ": ");
  if (!file.ends_with(".dot") && !file.ends_with(".svg"))
    throw UsageError(about + "unknown kind of drawing, expected a name that ends in .dot or .svg");
  if (file.ends_with(".svg") && std::system("command -v dot >/dev/null 2>&1") != 0)
    throw UsageError(about + "Graphviz's program dot is not installed, expected it, or a name that ends in .dot");
  const AtomicFile probe(file);  // throws where it cannot be written; leaves nothing
}

void write_graph(const std::string& file, const StepReport& step, const std::string& title) {
  const std::string dot = graph_dot(step, title);
  AtomicFile out(file);
  if (file.ends_with(".dot")) {
    out.write(dot);
    return out.commit();
  }
  // dot reads a file and writes to a pipe, so that no name of the user's meets the shell.
  const std::string source = std::filesystem::temp_directory_path() / concat("parabola-", ::getpid(), ".dot");
  AtomicFile in(source);
  in.write(dot);
  in.commit();
  FILE* pipe = ::popen(("dot -Tsvg '" + source + "'").c_str(), "r");
  std::array<char, 65536> buffer{};
  while (const size_t count = pipe ? std::fread(buffer.data(), 1, buffer.size(), pipe) : 0)
    out.write(buffer.data(), count);
  const bool fine = pipe && ::pclose(pipe) == 0;
  std::filesystem::remove(source);
  if (!fine) throw Error(concat("--graph ", printable(file), ": Graphviz's program dot failed"));
  out.commit();
}

std::function<void(const Tape&)> first_step_report(const std::string& file, const std::string& title, Progress& out) {
  return [=, &out](const Tape& tape) {
    const StepReport step(tape);
    const auto bytes = [](size_t n) { return format_bytes(static_cast<int64_t>(n)); };
    out.note(concat("memory  a step keeps ", bytes(step.saved_bytes), ", replays ", bytes(step.recomputed_bytes),
                    " of activations"));
    if (!file.empty()) write_graph(file, step, title);
  };
}

}  // namespace parabola
