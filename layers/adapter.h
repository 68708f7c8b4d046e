// Adapters: small trainable terms beside the layers of a pretrained network. All start at zero output, so the adapted
// network computes what the base does until it is trained, and taking them off gives the base back bit for bit.
//
//   quadratic, on linear and depthwise layers:
//     y = base(x) + s Σ_j (A_j x)∘(B_j x),  A = 0, B ~ N(0, 0.02²), s = 1/rank
//   quadratic, on full convolutions:
//     y = base(x) + s P((U x)∘(V x)),  P = 0, U and V ~ N(0, 1/fan_in), s = 1
//   lora, the linear contrast:
//     y = base(x) + s Up(Down x),  Up = 0, Down kaiming uniform, s = 1
// Sources and the choices where the paper is silent: docs/method.md.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "layers/basic.h"

namespace parabola {

enum class AdapterForm : uint8_t { neuron_wise, shared, lora };
std::string_view name_of(AdapterForm form);  // "neuron-wise", "shared", "lora"

// Largest rank, kernel and dilation: far beyond use, and small enough that no product of them overflows.
constexpr int largest_adapter_size = 4096;

// One adapter, complete: what the metadata of a weights file says of it.
struct AdapterSpec {
  std::string layer;  // full name of its host
  AdapterForm form = AdapterForm::neuron_wise;
  int rank = 2;    // r; the shared form has 2 r products; of lora: the width
  int kernel = 1;  // of the adapter's own convolutions; 1 on linear layers
  int dilation = 1;
  double scale = 1;
};

struct AdapterOptions {
  std::string method = "quadratic";  // or "lora"
  std::optional<std::string> match;  // glob over layer names; default: see default_hosts()
  std::optional<int> rank, kernel, dilation;
  std::optional<double> scale;
};

// The layers that get an adapter by default: every depthwise convolution where the model has any, else every
// convolution larger than 1x1.
std::vector<std::string> default_hosts(Module& model);

// What attach_adapters() would attach. Without a rank, lora's width is chosen layer by layer so that adapters and head
// together have within 2 % of the trainable parameters of the quadratic default (head_parameters is added to both
// sides). UsageError: no layer matches; an even kernel, or one that cannot keep the layer's output size.
std::vector<AdapterSpec> plan_adapters(Module& model, const AdapterOptions& options, int64_t head_parameters = 0);

// UsageError naming the layer where it has an adapter already, cannot have one of this form or size, or where the
// adapter's window cannot be centred on the layer's.
void check_adapter(const Host& host, const AdapterSpec& spec);

// Attaches adapters and draws their weights from `seed`. UsageError naming the layer where one is not a Linear or
// Conv2d, or as check_adapter(); nothing was attached then.
void attach_adapters(Module& model, const std::vector<AdapterSpec>& specs, uint64_t seed);
void attach_adapters(Module& model, const AdapterOptions& options, uint64_t seed = 0);

void detach_adapters(Module& model);  // gives the base back
int64_t adapter_parameters(const Host& host, const AdapterSpec& spec);

}  // namespace parabola
