#include "apps/common/profile.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "apps/common/svg.h"
#include "apps/common/text.h"
#include "engine/core/error.h"

namespace parabola {
namespace {

constexpr double seconds_of_steps = 2;
constexpr const char* suffixes[] = {"", " replay", " backward"};  // by Moment::Kind

double milliseconds(double seconds) { return 1e3 * seconds; }

// The executor's moments go here while one of these lives, whatever happens meanwhile.
class Collecting {
 public:
  explicit Collecting(std::vector<Moment>& moments) { Executor::instance().moments = &moments; }
  ~Collecting() { Executor::instance().moments = nullptr; }
  Collecting(const Collecting&) = delete;
  Collecting& operator=(const Collecting&) = delete;
};

}  // namespace

const char* bound_of(const KernelProfile& kernel) {
  if (kernel.least_seconds == 0) return "-";
  return 2 * kernel.computing_seconds > kernel.least_seconds ? "multiply-adds" : "memory";
}

double Profile::between_kernels() const {
  return std::accumulate(kernels.begin(), kernels.end(), seconds,
                         [](double left, const KernelProfile& kernel) { return left - kernel.seconds; });
}

Profile profile_step(Device device, const std::function<size_t()>& step) {
  const Ceilings before = measure_ceilings(device);
  std::vector<std::vector<Moment>> steps;
  const Measurement measured = measure(device, seconds_of_steps, [&] {
    const Collecting collecting(steps.emplace_back());
    return step();
  });
  steps.erase(steps.begin(), steps.end() - static_cast<std::ptrdiff_t>(measured.seconds.size()));  // those that warm up
  const double share = 1 / static_cast<double>(steps.size());
  // Other work on the machine lowers what is measured, for the length of such a measurement mostly.
  const Ceilings after = measure_ceilings(device);
  Profile profile{.most = {std::max(before.flops_per_second, after.flops_per_second),
                           std::max(before.bytes_per_second, after.bytes_per_second)}};
  const Ceilings& most = profile.most;
  for (const double seconds : measured.seconds) profile.seconds += share * seconds;
  std::map<std::string, KernelProfile> kernels;
  for (size_t call = 0; call < steps.front().size(); ++call) {
    const Moment& moment = steps.front()[call];
    if (!moment.op) continue;
    const double bytes = moment.cost.bytes_read + moment.cost.bytes_written;
    const double computing = moment.cost.flops / most.flops_per_second, moving = bytes / most.bytes_per_second;
    const std::string name = concat(moment.op->name, suffixes[static_cast<size_t>(moment.kind)]);
    KernelProfile& kernel = kernels.try_emplace(name, KernelProfile{.kernel = name}).first->second;
    ++kernel.calls;
    for (const std::vector<Moment>& each : steps) kernel.seconds += share * each.at(call).seconds;
    kernel.flops += moment.cost.flops;
    kernel.bytes += bytes;
    kernel.least_seconds += std::max(computing, moving);
    if (computing > moving) kernel.computing_seconds += computing;
  }
  for (auto& [name, kernel] : kernels) profile.kernels.push_back(std::move(kernel));
  std::ranges::stable_sort(profile.kernels, std::ranges::greater{}, &KernelProfile::seconds);
  return profile;
}

std::string profile_table(const Profile& profile) {
  Table table({"kernel", "calls", "ms", "of step", "GFLOP/s", "of most", "GB/s", "of a copy", "bound by", "of bound"});
  for (const KernelProfile& kernel : profile.kernels) {
    const double flops = kernel.flops / kernel.seconds, bytes = kernel.bytes / kernel.seconds;
    table.add({kernel.kernel, format_count(kernel.calls), format_fixed(milliseconds(kernel.seconds), 3),
               format_percent(kernel.seconds / profile.seconds, 1), format_fixed(flops / 1e9, 1),
               format_percent(flops / profile.most.flops_per_second, 0), format_fixed(bytes / 1e9, 1),
               format_percent(bytes / profile.most.bytes_per_second, 0), bound_of(kernel),
               format_percent(kernel.least_seconds / kernel.seconds, 0)});
  }
  const double rest = profile.between_kernels();
  table.add({"between kernels", "-", format_fixed(milliseconds(rest), 3), format_percent(rest / profile.seconds, 1),
             "-", "-", "-", "-", "-", "-"});
  return table.str();
}

std::string profile_svg(const std::string& title, const Profile& profile) {
  using namespace svg;
  constexpr double width = 960, margin = 28, row = 24, bar = 14, names = 250, figures = 190;
  const double longest = profile.kernels.empty() ? 1 : profile.kernels.front().seconds;
  const auto length = [&](double seconds) { return (width - 2 * margin - names - figures) * seconds / longest; };
  Drawing drawing;
  drawing.text(margin, 36, "start", 17, ink, bold(title));
  const double left = margin + names;
  double y = 62;
  drawing.box({left, y - 10}, 12, 12, palette[0]);
  drawing.text(left + 18, y, "start", 12, muted, "milliseconds of a step in this kernel");
  drawing.box({left + 260, y - 10}, 12, 12, palette[4]);
  drawing.text(left + 278, y, "start", 12, muted, "of which the roofline accounts for");
  y += 18;
  for (const KernelProfile& kernel : profile.kernels) {
    drawing.text(left - 10, y + 12, "end", 13, ink, escape(kernel.kernel));
    drawing.box({left, y}, length(kernel.seconds), bar, palette[0]);
    drawing.box({left, y + 4}, length(std::min(kernel.seconds, kernel.least_seconds)), bar - 8, palette[4]);
    drawing.text(left + length(kernel.seconds) + 8, y + 12, "start", 12, muted,
                 concat(bold(format_fixed(milliseconds(kernel.seconds), 2)), " ms, ",
                        format_percent(kernel.least_seconds / kernel.seconds, 0), " of ", bound_of(kernel)));
    y += row;
  }
  return drawing.finish(width, y + 12, title);
}

}  // namespace parabola
