#include "engine/tape/solver.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <set>

#include "engine/core/error.h"

namespace parabola {
namespace {

constexpr int points_on_path = 14;                   // plans tried of each order of dropping
constexpr int points_of_limit = 6;                   // limits tried of each plan
constexpr int gaps_halved = 60;                      // of the frontier that these make
constexpr size_t caps[] = {1, 2, 4, 8, 16, 32, 64};  // parts of the whole that may be dropped together

// The step as the solver sees it: a node with its results, and whose results it reads.
struct Op {
  const OpDef* op;
  std::vector<int> inputs;  // nodes, through views
  size_t output_bytes = 0, auxiliary_bytes = 0;
  double forward = 0, backward = 0;  // flops
  bool read = false;                 // by backward
  bool fixed = false;                // a view, marked, or shown by a Tensor to the end
  bool dropped = false;              // at first
};
using Step = std::vector<Op>;

Step step_of(const Tape& tape) {
  Step step;
  const auto producer = [&](int value) { return value < 0 ? -1 : tape.storage_of(value).producer; };
  for (const Node& node : tape.nodes()) {
    Op op{.op = node.op, .inputs = {}};
    op.forward = node.cost.forward.flops;
    op.backward = node.gradient_mask ? node.cost.backward.flops : 0;
    op.fixed = node.op->view || node.policy != Policy::automatic;
    op.dropped = node.policy == Policy::recompute;
    for (int value : node.inputs)
      if (producer(value) >= 0) op.inputs.push_back(producer(value));
    if (!node.op->view) {
      for (int value : node.outputs) {
        const Storage& storage = tape.storage_of(value);
        op.output_bytes += storage.bytes();
        op.read |= storage.reads > 0;
        op.fixed |= storage.handles() > 0;
      }
      for (int value : node.auxiliary) op.auxiliary_bytes += tape.storage_of(value).bytes();
    }
    step.push_back(std::move(op));
  }
  return step;
}

// Drops results one after the other, those with the fewest replayed flops per byte first.
class Dropping {
 public:
  // cap: the most bytes dropped together, in results that lie next to each other.
  Dropping(const Step& rich, const Step& lean, size_t cap) : rich_(rich), lean_(lean), cap_(cap) {
    const size_t n = rich.size();
    choices_.resize(n);
    kept_.resize(n), replayed_.resize(n), group_.resize(n), group_bytes_.resize(n);
    std::iota(group_.begin(), group_.end(), size_t{0});
    readers_.resize(n);
    for (size_t v = 0; v < n; ++v) {
      for (int u : rich[v].inputs) readers_[static_cast<size_t>(u)].push_back(v);
      kept_[v] = !rich[v].dropped && (rich[v].read || lean[v].read || rich[v].fixed);
      group_bytes_[v] = kept_[v] ? 0 : rich[v].output_bytes;
      choices_[v] = {rich[v].op, kept_[v] ? Policy::save : Policy::recompute, rich[v].op->variants - 1};
    }
  }

  // The next step on the way; false where nothing is left.
  bool advance() {
    constexpr size_t none = ~size_t{0};
    size_t best = none;
    double least = 0;
    bool variant = false;
    const auto offer = [&](size_t v, bool of_variant, double flops, size_t bytes) {
      const double price = flops / static_cast<double>(bytes);
      if (best == none || price < least) best = v, least = price, variant = of_variant;
    };
    for (size_t v = 0; v < rich_.size(); ++v) {
      const size_t saved = rich_[v].auxiliary_bytes - std::min(rich_[v].auxiliary_bytes, lean_[v].auxiliary_bytes);
      if (choices_[v].variant > 0 && saved > 0) offer(v, true, lean_[v].backward - rich_[v].backward, saved);
      if (rich_[v].fixed || !kept_[v] || rich_[v].output_bytes == 0) continue;
      if (joined_bytes(v) <= cap_) offer(v, false, price_of(v), rich_[v].output_bytes);
    }
    if (best == none) return false;
    if (variant) {
      choices_[best].variant = 0;
      gained_ += rich_[best].auxiliary_bytes - lean_[best].auxiliary_bytes;
    } else {
      drop(best);
    }
    return true;
  }

  const std::vector<StepPlan::Choice>& choices() const { return choices_; }
  size_t gained_bytes() const { return gained_; }

 private:
  size_t root(size_t v) const {
    while (group_[v] != v) v = group_[v];
    return v;
  }
  template <class Visit>
  void each_neighbour_group(size_t v, const Visit& visit) const {
    std::vector<size_t> seen;
    const auto look = [&](size_t u) {
      if (kept_[u] || std::ranges::count(seen, root(u))) return;
      seen.push_back(root(u));
      visit(root(u));
    };
    for (int u : rich_[v].inputs) look(static_cast<size_t>(u));
    for (size_t u : readers_[v]) look(u);
  }
  size_t joined_bytes(size_t v) const {
    size_t bytes = rich_[v].output_bytes;
    each_neighbour_group(v, [&](size_t group) { bytes += group_bytes_[group]; });
    return bytes;
  }

  // Flops of the replays that dropping v adds: its own, and those of what is not kept before it.
  double price_of(size_t v, bool take = false) {
    double flops = 0;
    std::vector<size_t> open = {v}, seen;
    while (!open.empty()) {
      const size_t u = open.back();
      open.pop_back();
      if (replayed_[u] || std::ranges::count(seen, u)) continue;
      seen.push_back(u);
      flops += rich_[u].forward;
      for (int input : rich_[u].inputs)
        if (!kept_[static_cast<size_t>(input)]) open.push_back(static_cast<size_t>(input));
    }
    if (take)
      for (size_t u : seen) replayed_[u] = true;
    return flops;
  }

  void drop(size_t v) {
    group_bytes_[v] = joined_bytes(v);
    each_neighbour_group(v, [&](size_t group) { group_[group] = v; });
    kept_[v] = false;
    price_of(v, true);
    choices_[v].policy = Policy::recompute;
    gained_ += rich_[v].output_bytes;
  }

  const Step &rich_, &lean_;
  size_t cap_, gained_ = 0;
  std::vector<StepPlan::Choice> choices_;
  std::vector<bool> kept_, replayed_;
  std::vector<size_t> group_, group_bytes_;
  std::vector<std::vector<size_t>> readers_;
};

// Choices at points evenly spaced in bytes on the way from nothing dropped to all.
std::vector<std::vector<StepPlan::Choice>> path(const Step& rich, const Step& lean, size_t cap) {
  Dropping all(rich, lean, cap), dropping(rich, lean, cap);
  while (all.advance()) continue;
  std::vector<std::vector<StepPlan::Choice>> points = {dropping.choices()};
  for (int i = 1; i <= points_on_path; ++i) {
    const size_t target = all.gained_bytes() * static_cast<size_t>(i) / points_on_path;
    bool moved = false;
    while (dropping.gained_bytes() < target && dropping.advance()) moved = true;
    if (moved) points.push_back(dropping.choices());
  }
  return points;
}

// Leaves those that no other one betters, by growing peak and falling work.
void keep_unbettered(std::vector<PlannedStep>& steps) {
  std::ranges::stable_sort(
      steps, {}, [](const PlannedStep& step) { return std::pair(step.plan.peak_bytes, step.plan.replay_flops); });
  std::vector<PlannedStep> best;
  for (PlannedStep& step : steps)
    if (best.empty() || step.plan.replay_flops < best.back().plan.replay_flops) best.push_back(std::move(step));
  steps = std::move(best);
}

}  // namespace

Frontier::Frontier(const std::function<Tensor()>& loss, Device device, TapeOptions options) {
  options.checkpoint = Checkpoint::automatic;
  const auto attempt = [&](std::vector<StepPlan::Choice> nodes, size_t limit) {
    options.memory_budget = limit;
    options.plan = std::make_shared<StepPlan>(StepPlan{std::move(nodes), limit});
    try {
      steps_.push_back({plan_step(options, loss, device), options.plan});
    } catch (const MemoryError&) {
      return false;
    }
    return true;
  };

  Step rich, lean;
  options.memory_budget = no_budget;
  options.plan = nullptr;
  const Plan roomy = plan_step(options, loss, device, [&](const Tape& tape) { rich = step_of(tape); });
  StepPlan keep_all;  // with the richest variants, which a tape with a budget does not choose by itself
  for (const Op& op : rich) keep_all.nodes.push_back({op.op, Policy::automatic, op.op->variants - 1});
  steps_.push_back({roomy, std::make_shared<StepPlan>(std::move(keep_all))});
  options.memory_budget = no_budget - 1;  // ops then start from the variant that keeps least
  plan_step(options, loss, device, [&](const Tape& tape) { lean = step_of(tape); });
  PARABOLA_ASSERT(rich.size() == lean.size());

  std::vector<std::vector<StepPlan::Choice>> starts = {{}};  // of the evictor
  const size_t whole = std::transform_reduce(rich.begin(), rich.end(), size_t{0}, std::plus(),
                                             [](const Op& op) { return op.output_bytes; });
  for (const size_t cap : caps) {
    auto points = path(rich, lean, whole / cap);
    for (auto& point : points) attempt(point, no_budget);
    starts.push_back(points[points.size() / 2]);
    starts.push_back(points.back());
  }

  // Each start under the evictor, down to where it cannot go on.
  for (const auto& start : starts) {
    size_t fails = 0, works = roomy.peak_bytes;
    if (!attempt(start, works)) continue;
    while (works - fails > std::max<size_t>(roomy.peak_bytes / 256, 1)) {
      const size_t middle = fails + (works - fails) / 2;
      (attempt(start, middle) ? works : fails) = middle;
    }
    const double ratio = static_cast<double>(works) / static_cast<double>(roomy.peak_bytes);
    for (int i = 1; i < points_of_limit; ++i)
      attempt(start, static_cast<size_t>(static_cast<double>(roomy.peak_bytes) *
                                         std::pow(ratio, static_cast<double>(i) / points_of_limit)));
  }

  // Where two neighbours are far apart, what lies between is looked for from both of them and from nothing.
  std::set<std::pair<size_t, size_t>> halved;
  keep_unbettered(steps_);
  for (int i = 0; i < gaps_halved; ++i) {
    size_t widest = 0;
    double most = 0;
    for (size_t k = 1; k < steps_.size(); ++k) {
      const Plan &low = steps_[k - 1].plan, &high = steps_[k].plan;
      const double area = (1 - static_cast<double>(low.peak_bytes) / static_cast<double>(high.peak_bytes)) *
                          (low.replay_flops - high.replay_flops);
      if (area > most && !halved.contains({low.peak_bytes, high.peak_bytes})) widest = k, most = area;
    }
    if (widest == 0) break;
    const PlannedStep low = steps_[widest - 1], high = steps_[widest];
    halved.emplace(low.plan.peak_bytes, high.plan.peak_bytes);
    const size_t limit = low.plan.peak_bytes + (high.plan.peak_bytes - low.plan.peak_bytes) / 2;
    for (const auto& start : {std::vector<StepPlan::Choice>(), low.choices->nodes, high.choices->nodes})
      attempt(start, limit);
    keep_unbettered(steps_);
  }
}

const PlannedStep* Frontier::within(size_t budget) const {
  const PlannedStep* best = nullptr;
  for (const PlannedStep& step : steps_)
    if (step.plan.peak_bytes <= budget) best = &step;
  return best;
}

}  // namespace parabola
