// Where adapters go and how large they are, from the options of the command line.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "engine/core/error.h"
#include "layers/adapter.h"

namespace parabola {
namespace {

std::vector<std::pair<std::string, Host*>> hosts_of(Module& model) {
  std::vector<std::pair<std::string, Host*>> hosts;
  for (auto& [name, module] : model.modules())
    if (auto* host = dynamic_cast<Host*>(module)) hosts.emplace_back(name, host);
  return hosts;
}

const Conv2dOptions* convolution(const Host& host) {
  const auto* conv = dynamic_cast<const Conv2d*>(&host);
  return conv ? &conv->options() : nullptr;
}

// PAPER's atrous rule: the adapter's taps span the host's window, d = (k - 1) / (ka - 1). Other hosts lend their own
// kernel.
AdapterSpec spec_for(const std::string& name, const Host& host, const AdapterOptions& options) {
  AdapterSpec spec{.layer = name, .rank = options.rank.value_or(2)};
  const Conv2dOptions* conv = convolution(host);
  const bool depthwise = conv && conv->depthwise(), lora = options.method == "lora";
  if (conv) {
    const bool atrous = depthwise && conv->kernel > 3;
    spec.kernel = options.kernel.value_or(atrous ? 3 : conv->kernel);
    const int span = conv->dilation * (conv->kernel - 1);
    spec.dilation =
        options.dilation.value_or(atrous && spec.kernel > 1 ? std::max(1, span / (spec.kernel - 1)) : conv->dilation);
  }
  // Grouped convolutions keep the neuron-wise form: shared products would mix the groups.
  spec.form = lora                                      ? AdapterForm::lora
              : conv && !depthwise && conv->groups == 1 ? AdapterForm::shared
                                                        : AdapterForm::neuron_wise;
  const double scale = lora || spec.form == AdapterForm::shared ? 1.0 : 1.0 / spec.rank;
  spec.scale = options.scale.value_or(scale);
  check_adapter(host, spec);
  return spec;
}

// Widths of lora whose parameters add up to about those of the quadratic adapters: each layer's share rounded down
// first, then, from the largest layer to the smallest, one more where that brings the sum closer.
void choose_widths(std::vector<AdapterSpec>& lora, const std::vector<Host*>& hosts,
                   const std::vector<AdapterSpec>& quadratic, int64_t head_parameters) {
  std::vector<int64_t> unit;
  int64_t target = 0, sum = 0;
  for (size_t i = 0; i < lora.size(); ++i) {
    lora[i].rank = 1;
    unit.push_back(adapter_parameters(*hosts[i], lora[i]));
    const int64_t wanted = adapter_parameters(*hosts[i], quadratic[i]);
    lora[i].rank = static_cast<int>(std::max<int64_t>(1, wanted / unit[i]));
    target += wanted;
    sum += lora[i].rank * unit[i];
  }
  std::vector<size_t> order(lora.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, [&](size_t l, size_t r) { return unit[l] > unit[r]; });
  for (size_t i : order)
    if (std::llabs(sum + unit[i] - target) < std::llabs(sum - target)) ++lora[i].rank, sum += unit[i];
  const double miss = std::abs(static_cast<double>(sum - target)) / static_cast<double>(target + head_parameters);
  if (miss > 0.02)
    fail<UsageError>("adapter", "no lora widths come within 2 % of the quadratic adapters' ", target,
                     " parameters (closest: ", sum, "), expected --rank");
}

}  // namespace

void check_adapter(const Host& host, const AdapterSpec& spec) {
  const std::string layer = printable(spec.layer);
  if (host.adapter()) fail<UsageError>("adapter", layer, ": has an adapter already, expected none");
  if (host.folded()) fail<UsageError>("adapter", layer, ": is folded, expected a layer that can train");
  for (const int size : {spec.rank, spec.kernel, spec.dilation})
    if (size < 1 || size > largest_adapter_size)
      fail<UsageError>("adapter", layer, ": got rank ", spec.rank, ", kernel ", spec.kernel, ", dilation ",
                       spec.dilation, ", expected 1 to ", largest_adapter_size);
  const Conv2dOptions* conv = convolution(host);
  if (spec.form == AdapterForm::shared && !(conv && conv->groups == 1))
    fail<UsageError>("adapter", layer, ": cannot have the shared form, which mixes all channels of a full convolution,",
                     " expected neuron-wise or lora");
  if (!conv) return;
  const int span = conv->dilation * (conv->kernel - 1), own = spec.dilation * (spec.kernel - 1);
  if ((own - span) % 2 != 0)
    fail<UsageError>("adapter", layer, ": kernel ", spec.kernel, " with dilation ", spec.dilation,
                     " cannot be centred on the layer's ", conv->kernel, "x", conv->kernel,
                     " window, expected an odd kernel");
  if (conv->padding + (own - span) / 2 < 0)
    fail<UsageError>("adapter", layer, ": kernel ", spec.kernel, " with dilation ", spec.dilation,
                     " would need negative padding, expected a window at least ", span + 1 - 2 * conv->padding,
                     " wide");
}

std::vector<std::string> default_hosts(Module& model) {
  std::vector<std::string> depthwise, larger;
  for (auto& [name, host] : hosts_of(model)) {
    const Conv2dOptions* conv = convolution(*host);
    if (conv && conv->depthwise()) depthwise.push_back(name);
    if (conv && conv->kernel > 1) larger.push_back(name);
  }
  return depthwise.empty() ? larger : depthwise;
}

std::vector<AdapterSpec> plan_adapters(Module& model, const AdapterOptions& options, int64_t head_parameters) {
  const std::vector<std::string> usual = default_hosts(model);
  std::vector<AdapterSpec> specs, quadratic;
  std::vector<Host*> hosts;
  for (auto& [name, host] : hosts_of(model)) {
    if (options.match ? !matches(*options.match, name) : std::ranges::find(usual, name) == usual.end()) continue;
    specs.push_back(spec_for(name, *host, options));
    hosts.push_back(host);
    AdapterOptions as_quadratic = options;
    as_quadratic.method = "quadratic";
    quadratic.push_back(spec_for(name, *host, as_quadratic));
  }
  if (specs.empty())
    fail<UsageError>("adapter",
                     options.match ? concat("--match '", printable(*options.match), "' matches no layer")
                                   : std::string("the model has no convolution larger than 1x1"),
                     ", expected a pattern over the linear and convolution layers",
                     hosts_of(model).empty() ? "" : concat(" (the first is ", hosts_of(model)[0].first, ")"));
  if (options.method == "lora" && !options.rank) choose_widths(specs, hosts, quadratic, head_parameters);
  return specs;
}

}  // namespace parabola
