#include "apps/common/memory_plan.h"

#include <cmath>

#include "apps/common/plot.h"
#include "apps/common/text.h"
#include "engine/core/error.h"

namespace parabola {
namespace {

constexpr int64_t most_images = 1 << 20;  // of one batch

// Why the budget cannot be kept, in the tape's own words: who holds what when room is missing.
std::string reason(size_t budget, const std::function<Tensor()>& loss, Device device) {
  try {
    plan_step({.memory_budget = budget}, loss, device);
  } catch (const MemoryError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

PlannedStep plan_memory(Checkpoint checkpoint, size_t budget, int64_t batch, const LossOfBatch& loss, Device device) {
  const auto step = [&] { return loss(batch); };
  TapeOptions options{.checkpoint = checkpoint, .memory_budget = budget};
  if (checkpoint != Checkpoint::automatic) return {plan_step(options, step, device), place_step(options, step, device)};
  const Frontier frontier(step, device);
  if (const PlannedStep* best = frontier.within(budget)) {
    options.plan = best->choices;
    return {best->plan, place_step(options, step, device)};
  }
  const std::string why = reason(budget, step, device);
  throw UsageError(concat("--memory-budget: got ", budget, " bytes (", bytes_text(budget), "), expected at least ",
                          frontier.smallest_budget(), " (", bytes_text(frontier.smallest_budget()), ") for a batch of ",
                          batch, why.empty() ? "" : "; ", why));
}

int64_t largest_batch(size_t budget, const LossOfBatch& loss, Device device) {
  const auto fits = [&](int64_t batch) {
    return Frontier([&] { return loss(batch); }, device).smallest_budget() <= budget;
  };
  int64_t works = 0, fails = 1;
  while (fails <= most_images && fits(fails)) works = fails, fails *= 2;
  if (fails > most_images)
    throw UsageError(concat("--memory-budget: got ", bytes_text(budget), ", which does not bound the batch: even ",
                            works, " images keep it, expected less"));
  if (works == 0) plan_memory(Checkpoint::automatic, budget, 1, loss, device);  // throws
  while (fails - works > 1) {
    const int64_t middle = works + (fails - works) / 2;
    (fits(middle) ? works : fails) = middle;
  }
  return works;
}

std::string memory_svg(const std::string& title, const std::vector<Moment>& moments, size_t budget) {
  Series total{.name = "activations"}, workspace{.name = "workspace"}, replays{.name = "replays"},
      evictions{.name = "evictions"}, limit{.name = "budget"};
  const auto mib = [](size_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  const auto add = [](Series& series, double x, double y) { series.x.push_back(x), series.y.push_back(y); };
  const auto mark = [&](Series& series, double x, double y) {  // a point alone is drawn as a dot
    add(series, x, y);
    add(series, x, NAN);
  };
  double x = 0;
  for (const Moment& moment : moments) {
    const double all = mib(moment.activations + moment.workspace);
    if (moment.kind == Moment::Kind::eviction) {
      mark(evictions, x, all);
      continue;
    }
    ++x;
    add(total, x, all);
    add(workspace, x, mib(moment.workspace));
    if (moment.kind == Moment::Kind::replay) mark(replays, x, all);
  }
  Panel panel{.title = "activation bytes, workspace included", .x_label = "kernels of the step", .y_label = "MiB"};
  panel.least_x_step = 1;
  panel.series = {total, workspace};
  if (budget != no_budget) {
    add(limit, 1, mib(budget));
    add(limit, x, mib(budget));
    panel.series.push_back(limit);
  }
  if (!replays.x.empty()) panel.series.push_back(replays);
  if (!evictions.x.empty()) panel.series.push_back(evictions);
  return render_svg(title, {&panel, 1});
}

std::string describe(const Plan& plan) {
  return concat("planned peak ", bytes_text(plan.peak_bytes), " of activations in a step, ",
                bytes_text(plan.saved_bytes), " after forward, ", format_fixed(plan.replay_flops / 1e9, 3),
                " GFLOP replayed");
}

}  // namespace parabola
