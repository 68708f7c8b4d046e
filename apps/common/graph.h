// A drawing of one training step, for --graph: ops as boxes, in the parts of the model that they belong to.
#pragma once
#include <functional>
#include <string>

#include "apps/common/progress.h"
#include "engine/tape/report.h"

namespace parabola {

// The step in Graphviz's language. Top to bottom; nested scopes are nested frames; a box's colour says what becomes of
// the op's result, its lines name the parameters that the op reads; edges carry shapes.
std::string graph_dot(const StepReport& step, const std::string& title);

// UsageError naming --graph: FILE ends in neither .dot nor .svg, cannot be written, or ends in .svg where Graphviz's
// program dot, which lays the drawing out, is not installed.
void check_graph_file(const std::string& file);
void write_graph(const std::string& file, const StepReport& step, const std::string& title);

// What train and adapt say of their first step when its forward pass has ended: a line of the banner about what it
// keeps, and the drawing, where `file` is not empty.
std::function<void(const Tape&)> first_step_report(const std::string& file, const std::string& title, Progress& out);

}  // namespace parabola
