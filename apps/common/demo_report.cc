#include "apps/common/demo_report.h"

#include <algorithm>
#include <cmath>

#include "apps/common/text.h"
#include "engine/core/error.h"

namespace parabola {
namespace {

const DemoRun& run_of(std::span<const DemoRun> runs, std::string_view method) {
  const auto found = std::ranges::find(runs, method, &DemoRun::method);
  PARABOLA_ASSERT(found != runs.end());
  return *found;
}

std::string points(double difference) { return format_fixed(100 * std::abs(difference), 1); }
std::string signed_points(double difference) {
  const std::string text = points(difference);
  return text == "0.0" ? text : (difference < 0 ? "-" : "+") + text;
}

// The difference of two top-1 figures that chance alone rarely exceeds: twice its standard error, as if the figures
// came from two samples. (They come from the same images, so the true error is smaller.)
double chance_margin(const Score& a, const Score& b) {
  const auto variance = [](const Score& s) { return s.top1() * (1 - s.top1()) / static_cast<double>(s.images); };
  return 2 * std::sqrt(variance(a) + variance(b));
}

std::string against_lora(const DemoRun& quadratic, const DemoRun& lora) {
  const Score &q = quadratic.result.test, &l = lora.result.test;
  PARABOLA_ASSERT(50 * std::llabs(quadratic.trainable - lora.trainable) <= quadratic.trainable);  // 2%
  const double difference = q.top1() - l.top1(), margin = chance_margin(q, l);
  const std::string sizes = concat(" at equal size (", format_count(quadratic.trainable), " and ",
                                   format_count(lora.trainable), " parameters)");
  const std::string images = format_count(q.images) + " test images";
  if (std::abs(difference) <= margin)
    return concat("Quadratic adapters and LoRA are level", sizes, ":\n", points(difference), " points apart, where ",
                  images, " cannot tell less than ", points(margin), ".\n");
  return concat("Quadratic adapters are ", points(difference), " points ", difference > 0 ? "ahead of" : "behind",
                " LoRA", sizes, ",\nmore than the ", points(margin), " points that chance explains on ", images, ".\n");
}

}  // namespace

std::string demo_table(const DemoRun& base, std::span<const DemoRun> adapted) {
  Table table({"method", "before", "after", "trainable", "learning rate", "seconds", "GFLOP"});
  const auto row = [&](const DemoRun& run, double before, double after) {
    table.add({run.title, format_percent(before), format_percent(after), format_count(run.trainable),
               concat(run.learning_rate), format_fixed(run.result.seconds, 1),
               format_count(std::llround(run.result.flops / 1e9))});
  };
  row(base, adapted.front().result.top1_before, NAN);
  for (const DemoRun& run : adapted) row(run, run.result.top1_before, run.result.test.top1());
  return table.str();
}

std::string demo_verdict(const DemoRun& base, std::span<const DemoRun> adapted) {
  const DemoRun &quadratic = run_of(adapted, "quadratic"), &full = run_of(adapted, "full");
  const double before = quadratic.result.top1_before;
  std::string text = concat("The shift costs the base ", points(base.result.test.top1() - before),
                            " points. Adapting it changes that by");
  for (const DemoRun& run : adapted)
    text +=
        concat(&run == &adapted.front() ? "\n" : ", ", run.title, " ", signed_points(run.result.test.top1() - before));
  text += ".\n" + against_lora(quadratic, run_of(adapted, "lora"));
  const auto percent_of_full = [](double part, double whole) { return std::lround(100 * part / whole); };
  return text + concat("The quadratic run trained ",
                       percent_of_full(static_cast<double>(quadratic.trainable), static_cast<double>(full.trainable)),
                       "% of full fine-tuning's parameters with ",
                       percent_of_full(quadratic.result.flops, full.result.flops), "% of its FLOPs.\n");
}

std::string demo_curves(const DemoRun& base, std::span<const DemoRun> adapted) {
  Panel accuracy{.title = "Top-1",
                 .x_label = "epoch",
                 .y_label = "of the shifted validation images",
                 .percent = true,
                 .least_x_step = 1};
  Panel loss{
      .title = "Loss", .x_label = "epoch", .y_label = "cross-entropy on shifted training images", .least_x_step = 1};
  double last_epoch = 0;
  // The last first: the first colours are the strongest, and the methods that matter most stand at the end.
  for (auto run = adapted.rbegin(); run != adapted.rend(); ++run) {
    const Curves& curves = run->curves;
    Series top1{.name = run->title, .x = {0}, .y = {run->validation_top1}};
    top1.x.insert(top1.x.end(), curves.epoch.begin(), curves.epoch.end());
    top1.y.insert(top1.y.end(), curves.test_top1.begin(), curves.test_top1.end());
    last_epoch = std::max(last_epoch, top1.x.back());
    accuracy.series.push_back(std::move(top1));

    Series smooth{.name = run->title,
                  .y = smoothed(curves.train_loss, static_cast<double>(curves.train_loss.size()) / 50)};
    for (size_t step = 1; step <= smooth.y.size(); ++step)
      smooth.x.push_back(static_cast<double>(step) / curves.steps_per_epoch);
    loss.series.push_back(std::move(smooth));
  }
  const double clean = base.validation_top1;
  accuracy.series.push_back({.name = "base, clean images", .x = {0, last_epoch}, .y = {clean, clean}});
  return render_svg("Adapting a network to images it has not seen: Fashion-MNIST, shifted",
                    std::vector{accuracy, loss});
}

}  // namespace parabola
