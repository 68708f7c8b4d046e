#include "layers/adapter.h"

#include <cmath>
#include <map>
#include <numeric>

#include "engine/core/error.h"
#include "engine/ops/binary.h"
#include "engine/ops/conv2d/conv2d.h"
#include "engine/ops/depthwise/depthwise_conv2d.h"
#include "engine/ops/depthwise/quadratic_depthwise_conv2d.h"
#include "engine/ops/linear.h"
#include "engine/ops/permute.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d_shared.h"
#include "engine/ops/quadratic_linear.h"
#include "engine/ops/slice.h"
#include "engine/ops/view.h"

namespace parabola {
namespace {

constexpr double factor_deviation = 0.02;  // ConvNeXt's own spread; the replication of QuadraNet V2 uses it for B

// Padding that keeps the host's output size: an adapter window of d(k - 1) + 1 centred on the host's window of D(K - 1)
// + 1.
int centred_padding(const Conv2dOptions& host, const AdapterSpec& spec) {
  return host.padding + (spec.dilation * (spec.kernel - 1) - host.dilation * (host.kernel - 1)) / 2;
}

Tensor scaled(const Tensor& x, double scale) {
  return scale == 1 ? x : x * Tensor::full(Shape{}, scale, x.dtype(), Category::inputs, x.device());
}

// up [rows, rank] times down [rank, ...].
std::vector<double> product(const std::vector<double>& up, const std::vector<double>& down, int64_t rank) {
  const auto r = static_cast<size_t>(rank), rows = up.size() / r, row = down.size() / r;
  std::vector<double> result(rows * row);
  for (size_t k = 0; k < rows; ++k)
    for (size_t j = 0; j < r; ++j)
      for (size_t i = 0; i < row; ++i) result[k * row + i] += up[k * r + j] * down[j * row + i];
  return result;
}

// A kernel of the adapter's size, [outputs, taps, taps, channels] or, depthwise, [taps, taps, channels], as one of the
// host's, zero where it has no tap; empty where it has one that the host has not.
std::vector<double> on_host_taps(const Conv2dOptions& host, const AdapterSpec& spec, const Shape& weight,
                                 const std::vector<double>& kernel) {
  std::vector<size_t> taps;  // of the host, by the adapter's
  for (int tap = 0; tap < spec.kernel; ++tap) {
    const int place = tap * spec.dilation + host.padding - centred_padding(host, spec);
    if (place < 0 || place % host.dilation != 0 || place / host.dilation >= host.kernel) return {};
    taps.push_back(static_cast<size_t>(place / host.dilation));
  }
  const auto channels = static_cast<size_t>(weight[weight.rank() - 1]), wide = static_cast<size_t>(host.kernel);
  std::vector<double> result(static_cast<size_t>(weight.elements()));
  for (size_t i = 0; i < kernel.size(); ++i) {
    const size_t column = i / channels % taps.size(), row = i / channels / taps.size();  // row: of all outputs
    const size_t host_row = row / taps.size() * wide + taps[row % taps.size()];
    result[(host_row * wide + taps[column]) * channels + i % channels] = kernel[i];
  }
  return result;
}

class QuadraticLinearAdapter final : public Adapter {
 public:
  QuadraticLinearAdapter(const Linear& host, const AdapterSpec& spec) : Adapter(spec.scale) {
    const Shape shape{spec.rank, host.out(), host.in()};
    add("a", a_, shape, {Init::constant, 0}, FileLayout::linear_factors);
    add("b", b_, shape, {Init::normal, factor_deviation}, FileLayout::linear_factors);
  }
  Tensor adapted(const Tensor& x, const Tensor& weight, const Tensor& bias) override {
    return quadratic_linear(x, weight, bias, a_, b_, scale());
  }
  void scale_outputs(std::span<const double> factor) override { a_ = scaled_along(a_, 1, factor); }

 private:
  Tensor a_, b_;
};

class QuadraticDepthwiseAdapter final : public Adapter {
 public:
  QuadraticDepthwiseAdapter(const Conv2d& host, const AdapterSpec& spec)
      : Adapter(spec.scale), host_(host.options()), spec_(spec) {
    const Shape shape{spec.rank, spec.kernel, spec.kernel, host_.in};
    add("a", a_, shape, {Init::constant, 0}, FileLayout::depthwise_factors);
    add("b", b_, shape, {Init::normal, factor_deviation}, FileLayout::depthwise_factors);
  }
  Tensor adapted(const Tensor& x, const Tensor& weight, const Tensor& bias) override {
    return quadratic_depthwise_conv2d(x, weight, bias, a_, b_,
                                      {.stride = host_.stride,
                                       .padding = host_.padding,
                                       .dilation = host_.dilation,
                                       .quadratic_stride = host_.stride,
                                       .quadratic_padding = centred_padding(host_, spec_),
                                       .quadratic_dilation = spec_.dilation,
                                       .scale = scale()});
  }
  void scale_outputs(std::span<const double> factor) override { a_ = scaled_along(a_, 3, factor); }

 private:
  Conv2dOptions host_;
  AdapterSpec spec_;
  Tensor a_, b_;
};

ConvAttributes linear_attributes(const Conv2dOptions& host) {
  return {.stride = host.stride, .padding = host.padding, .dilation = host.dilation, .groups = host.groups};
}
ConvAttributes quadratic_attributes(const Conv2dOptions& host, const AdapterSpec& spec) {
  return {
      .stride = host.stride, .padding = centred_padding(host, spec), .dilation = spec.dilation, .groups = host.groups};
}

// Neuron-wise factors on a full or grouped convolution: 2 r times the host's own size, so an option, not the default.
class QuadraticConvAdapter final : public Adapter {
 public:
  QuadraticConvAdapter(const Conv2d& host, const AdapterSpec& spec)
      : Adapter(spec.scale), host_(host.options()), spec_(spec) {
    const Shape shape{spec.rank, host_.out, spec.kernel, spec.kernel, host_.in / host_.groups};
    add("a", a_, shape, {Init::constant, 0}, FileLayout::conv_factors);
    add("b", b_, shape, {Init::normal, factor_deviation}, FileLayout::conv_factors);
  }
  Tensor adapted(const Tensor& x, const Tensor& weight, const Tensor& bias) override {
    return quadratic_conv2d(x, weight, bias, a_, b_,
                            {linear_attributes(host_), quadratic_attributes(host_, spec_), scale()});
  }
  void scale_outputs(std::span<const double> factor) override { a_ = scaled_along(a_, 1, factor); }

 private:
  Conv2dOptions host_;
  AdapterSpec spec_;
  Tensor a_, b_;
};

// A CP decomposition of the layer's quadratic tensor: q = 2 r products shared by all outputs.
class SharedAdapter final : public Adapter {
 public:
  SharedAdapter(const Conv2d& host, const AdapterSpec& spec) : Adapter(spec.scale), host_(host.options()), spec_(spec) {
    const int64_t products = 2 * spec.rank, fan_in = host_.in * spec.kernel * spec.kernel;
    const Init init{Init::normal, 1.0 / std::sqrt(static_cast<double>(fan_in))};
    const Shape shape{products, spec.kernel, spec.kernel, host_.in};
    add("u", u_, shape, init, FileLayout::conv);
    add("v", v_, shape, init, FileLayout::conv);
    add("p", p_, Shape{host_.out, 1, 1, products}, {Init::constant, 0}, FileLayout::conv);
  }
  Tensor adapted(const Tensor& x, const Tensor& weight, const Tensor& bias) override {
    return quadratic_conv2d_shared(x, weight, bias, u_, v_, reshape(p_, Shape{host_.out, u_.shape()[0]}),
                                   {linear_attributes(host_), quadratic_attributes(host_, spec_), scale()});
  }
  void scale_outputs(std::span<const double> factor) override { p_ = scaled_along(p_, 0, factor); }

 private:
  Conv2dOptions host_;
  AdapterSpec spec_;
  Tensor u_, v_, p_;
};

class LoraLinearAdapter final : public Adapter {
 public:
  LoraLinearAdapter(const Linear& host, const AdapterSpec& spec) : Adapter(spec.scale) {
    add("down", down_, Shape{spec.rank, host.in()}, kaiming_uniform(host.in()));
    add("up", up_, Shape{host.out(), spec.rank}, {Init::constant, 0});
  }
  Tensor adapted(const Tensor& x, const Tensor& weight, const Tensor& bias) override {
    return linear(x, weight, bias) + scaled(linear(linear(x, down_, Tensor()), up_, Tensor()), scale());
  }
  void scale_outputs(std::span<const double> factor) override { up_ = scaled_along(up_, 0, factor); }
  std::vector<double> as_weight(const Shape&) const override {
    return product(values_of(up_), values_of(down_), up_.shape()[1]);
  }

 private:
  Tensor down_, up_;
};

class LoraConvAdapter final : public Adapter {
 public:
  LoraConvAdapter(const Conv2d& host, const AdapterSpec& spec)
      : Adapter(spec.scale), host_(host.options()), spec_(spec) {
    const int64_t channels = host_.in / host_.groups;
    add("down", down_, Shape{spec.rank, spec.kernel, spec.kernel, host_.in},
        kaiming_uniform(channels * spec.kernel * spec.kernel), FileLayout::conv);
    add("up", up_, Shape{host_.out, 1, 1, spec.rank}, {Init::constant, 0}, FileLayout::conv);
  }
  Tensor adapted(const Tensor& x, const Tensor& weight, const Tensor& bias) override {
    ConvAttributes down = quadratic_attributes(host_, spec_);
    down.groups = 1;
    return conv2d(x, weight, bias, linear_attributes(host_)) +
           scaled(conv2d(conv2d(x, down_, Tensor(), down), up_, Tensor(), {}), scale());
  }
  void scale_outputs(std::span<const double> factor) override { up_ = scaled_along(up_, 0, factor); }
  // Of a grouped convolution's inputs an output sees some, an adapter's output all.
  std::vector<double> as_weight(const Shape& weight) const override {
    if (host_.groups > 1) return {};
    return on_host_taps(host_, spec_, weight, product(values_of(up_), values_of(down_), up_.shape()[3]));
  }

 private:
  Conv2dOptions host_;
  AdapterSpec spec_;
  Tensor down_, up_;
};

// Per channel: r filters and r weights that add them up.
class LoraDepthwiseAdapter final : public Adapter {
 public:
  LoraDepthwiseAdapter(const Conv2d& host, const AdapterSpec& spec)
      : Adapter(spec.scale), host_(host.options()), spec_(spec) {
    add("down", down_, Shape{spec.rank, spec.kernel, spec.kernel, host_.in}, kaiming_uniform(spec.kernel * spec.kernel),
        FileLayout::depthwise_factors);
    add("up", up_, Shape{host_.out, 1, 1, spec.rank}, {Init::constant, 0}, FileLayout::conv);
  }
  Tensor adapted(const Tensor& x, const Tensor& weight, const Tensor& bias) override {
    const int64_t channels = host_.in;
    Tensor y = depthwise_conv2d(x, weight, bias,
                                {.stride = host_.stride, .padding = host_.padding, .dilation = host_.dilation});
    const Tensor up = permute(reshape(up_, Shape{channels, spec_.rank}), {1, 0});
    for (int j = 0; j < spec_.rank; ++j) {
      const Tensor filter = reshape(slice(down_, 0, j, j + 1), Shape{spec_.kernel, spec_.kernel, channels});
      const Tensor filtered = depthwise_conv2d(
          x, filter, Tensor(),
          {.stride = host_.stride, .padding = centred_padding(host_, spec_), .dilation = spec_.dilation});
      y = y + filtered * scaled(reshape(slice(up, 0, j, j + 1), Shape{channels}), scale());
    }
    return y;
  }
  void scale_outputs(std::span<const double> factor) override { up_ = scaled_along(up_, 0, factor); }
  std::vector<double> as_weight(const Shape& weight) const override {
    const std::vector<double> up = values_of(up_), down = values_of(down_);
    const auto channels = static_cast<size_t>(host_.in), rank = up.size() / channels, filter = down.size() / rank;
    std::vector<double> sum(filter);  // [taps, taps, channels]
    for (size_t i = 0; i < down.size(); ++i) sum[i % filter] += up[i % channels * rank + i / filter] * down[i];
    return on_host_taps(host_, spec_, weight, sum);
  }

 private:
  Conv2dOptions host_;
  AdapterSpec spec_;
  Tensor down_, up_;
};

std::unique_ptr<Adapter> make_adapter(const Host& host, const AdapterSpec& spec) {
  if (const auto* layer = dynamic_cast<const Linear*>(&host)) {
    if (spec.form == AdapterForm::lora) return std::make_unique<LoraLinearAdapter>(*layer, spec);
    return std::make_unique<QuadraticLinearAdapter>(*layer, spec);
  }
  const auto& conv = dynamic_cast<const Conv2d&>(host);
  const bool depthwise = conv.options().depthwise();
  switch (spec.form) {
    case AdapterForm::lora:
      if (depthwise) return std::make_unique<LoraDepthwiseAdapter>(conv, spec);
      return std::make_unique<LoraConvAdapter>(conv, spec);
    case AdapterForm::neuron_wise:
      if (depthwise) return std::make_unique<QuadraticDepthwiseAdapter>(conv, spec);
      return std::make_unique<QuadraticConvAdapter>(conv, spec);
    case AdapterForm::shared: return std::make_unique<SharedAdapter>(conv, spec);
  }
  return nullptr;
}

}  // namespace

std::string_view name_of(AdapterForm form) {
  switch (form) {
    case AdapterForm::neuron_wise: return "neuron-wise";
    case AdapterForm::shared: return "shared";
    case AdapterForm::lora: return "lora";
  }
  return "?";
}

int64_t adapter_parameters(const Host& host, const AdapterSpec& spec) {
  return parameter_count(*make_adapter(host, spec));
}

void attach_adapters(Module& model, const std::vector<AdapterSpec>& specs, uint64_t seed) {
  std::map<std::string, Module*> by_name;
  for (auto& [name, module] : model.modules()) by_name.emplace(name, module);
  std::map<Host*, std::unique_ptr<Adapter>> adapters;
  for (const AdapterSpec& spec : specs) {
    const auto found = by_name.find(spec.layer);
    Host* host = found == by_name.end() ? nullptr : dynamic_cast<Host*>(found->second);
    if (!host)
      fail<UsageError>("adapter", "layer '", printable(spec.layer),
                       "' is not one of the model's linear or convolution layers");
    check_adapter(*host, spec);
    // Each adapter draws from sequences of its own, so the one of a layer does not depend on which others there are.
    uint64_t key = seed;
    for (char c : spec.layer) key = (key ^ static_cast<unsigned char>(c)) * 0x100000001b3u;  // FNV-1a
    const auto [place, is_new] = adapters.emplace(host, make_adapter(*host, spec));
    if (!is_new) fail<UsageError>("adapter", printable(spec.layer), ": is named twice, expected one adapter a layer");
    place->second->initialize(key);
  }
  for (auto& [host, adapter] : adapters) host->attach(std::move(adapter));
}

void attach_adapters(Module& model, const AdapterOptions& options, uint64_t seed) {
  attach_adapters(model, plan_adapters(model, options), seed);
}

void detach_adapters(Module& model) {
  std::vector<Host*> hosts;  // collected first: the adapters are modules of the model too, and go while this runs
  for (auto& [name, module] : model.modules())
    if (auto* host = dynamic_cast<Host*>(module)) hosts.push_back(host);
  for (Host* host : hosts) host->detach();
}

}  // namespace parabola
