#include "engine/ops/optimizers.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "engine/core/error.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/elementwise.h"

namespace parabola {
namespace {

// An update's inputs: the norm (may be absent), all parameters, all gradients, then each kind of state in turn.
size_t kinds_of(const SgdAttributes& attributes) { return attributes.momentum == 0 ? 2 : 3; }
size_t kinds_of(const AdamwAttributes&) { return 4; }
size_t kinds_of(const EmaAttributes&) { return 2; }

template <class UpdateAttributes>
Layout update_layout(const char* op, const Signature& s) {
  const size_t count = (s.inputs.size() - 1) / kinds_of(s.attributes.get<UpdateAttributes>());
  for (size_t i = 1; i < s.inputs.size(); ++i) {
    const TensorSpec &parameter = s.inputs[1 + (i - 1) % count], &other = s.inputs[i];
    if (!other.present || other.shape != parameter.shape) {
      fail<ShapeError>(op, "got a gradient or state of shape ", other.shape, " for a parameter of shape ",
                       parameter.shape, ", expected the same");
    }
  }
  for (const TensorSpec& input : s.inputs) {
    if (input.present && input.dtype != s.dtype(1)) {
      fail<DTypeError>(op, "dtypes differ: got ", name_of(s.dtype(1)), " and ", name_of(input.dtype));
    }
  }
  if (s.has(0) && s.shape(0).elements() != 1) {
    fail<ShapeError>(op, "got a norm of shape ", s.shape(0), ", expected one element");
  }
  return {};
}

template <class UpdateAttributes>
StepCost update_cost(const Signature& s, double flops) {
  const double kinds = static_cast<double>(kinds_of(s.attributes.get<UpdateAttributes>()));
  double elements = 0, bytes = 0;
  for (const TensorSpec& input : s.inputs) {
    elements += input.present ? static_cast<double>(input.shape.elements()) / kinds : 0;
    bytes += static_cast<double>(input.bytes());
  }
  return {{elements * flops, bytes, bytes * (kinds - 1) / kinds}, {}};
}

// Calls update(begin, end, tensors) for pieces of every parameter; tensors: it, its gradient, its states.
template <class T, class UpdateAttributes, class Update>
void update_all(const ForwardArgs& args, const UpdateAttributes& attributes, Update&& update) {
  const size_t kinds = kinds_of(attributes), count = (args.inputs.size() - 1) / kinds;
  for (size_t i = 0; i < count; ++i) {
    std::array<T*, 4> tensors{};
    for (size_t kind = 0; kind < kinds; ++kind) tensors[kind] = args.inputs[1 + kind * count + i].data<T>();
    parallel_for(args.inputs[1 + i].shape.elements(), elementwise_grain,
                 [&](int64_t begin, int64_t end) { update(begin, end, tensors); });
  }
}

template <class T>
T clip_scale(const TensorView& norm, double max_norm) {
  return norm ? static_cast<T>(std::min(1.0, max_norm / (*norm.data<T>() + 1e-6))) : T(1);
}

template <class T>
void sgd_forward(const ForwardArgs& args) {
  const auto& attributes = args.attributes.get<SgdAttributes>();
  const T scale = clip_scale<T>(args.inputs[0], attributes.max_norm), rate = static_cast<T>(args.step->learning_rate),
          momentum = static_cast<T>(attributes.momentum), decay = static_cast<T>(attributes.weight_decay);
  const bool nesterov = attributes.nesterov;
  // A loop of its own for each kind, on variables of its own: from one that asks, or that might write what it reads
  // next, the compiler makes no vectors.
  update_all<T>(args, attributes, [=](int64_t begin, int64_t end, const std::array<T*, 4>& tensors) {
    T *p = tensors[0], *g = tensors[1], *m = tensors[2];
    const auto each = [=](const auto& step) {
      const T s = scale, r = rate, d = decay;
      PARABOLA_INDEPENDENT
      for (int64_t i = begin; i < end; ++i) p[i] = std::fma(-r, step(i, std::fma(d, p[i], s * g[i])), p[i]);
    };
    if (!m) return each([](int64_t, T d) { return d; });
    const T mu = momentum;
    if (!nesterov) return each([=](int64_t i, T d) { return m[i] = std::fma(mu, m[i], d); });
    each([=](int64_t i, T d) { return std::fma(mu, m[i] = std::fma(mu, m[i], d), d); });
  });
}

template <class T>
void adamw_forward(const ForwardArgs& args) {
  const auto& attributes = args.attributes.get<AdamwAttributes>();
  const double update = static_cast<double>(args.step->update), learning_rate = args.step->learning_rate;
  if (update < 1) fail<UsageError>("adamw", "got update ", update, " in the step record, expected to count from 1");
  const double correction1 = 1 - std::pow(attributes.beta1, update),
               correction2 = 1 - std::pow(attributes.beta2, update);
  const T scale = clip_scale<T>(args.inputs[0], attributes.max_norm), beta1 = static_cast<T>(attributes.beta1),
          beta2 = static_cast<T>(attributes.beta2), new1 = static_cast<T>(1 - attributes.beta1),
          new2 = static_cast<T>(1 - attributes.beta2), eps = static_cast<T>(attributes.eps),
          kept = static_cast<T>(1 - learning_rate * attributes.weight_decay),
          rate = static_cast<T>(learning_rate / correction1), root = static_cast<T>(1 / std::sqrt(correction2));
  update_all<T>(args, attributes, [=](int64_t begin, int64_t end, const std::array<T*, 4>& tensors) {
    T *p = tensors[0], *g = tensors[1], *m = tensors[2], *v = tensors[3];
    PARABOLA_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) {
      const T gradient = scale * g[i];
      m[i] = std::fma(beta1, m[i], new1 * gradient);
      v[i] = std::fma(beta2, v[i], new2 * gradient * gradient);
      p[i] = std::fma(-rate, m[i] / std::fma(std::sqrt(v[i]), root, eps), kept * p[i]);
    }
  });
}

template <class T>
void ema_forward(const ForwardArgs& args) {
  const auto& attributes = args.attributes.get<EmaAttributes>();
  const T pull = static_cast<T>(attributes.pull(args.step->update));
  update_all<T>(args, attributes, [=](int64_t begin, int64_t end, const std::array<T*, 4>& tensors) {
    T *average = tensors[0], *value = tensors[1];
    PARABOLA_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) average[i] = std::fma(pull, value[i] - average[i], average[i]);
  });
}

// The masks of an OpDef have 64 bits and cannot say that hundreds of inputs change, so that is noted here.
void update(const OpDef& op, const Attributes& attributes, const Tensor& norm,
            std::initializer_list<std::span<const Tensor>> kinds) {
  const std::span<const Tensor> gradients = kinds.begin()[1];
  std::vector<Tensor> inputs;
  inputs.reserve(1 + kinds.size() * gradients.size());
  inputs.push_back(norm);
  for (const std::span<const Tensor> tensors : kinds) {
    if (tensors.size() != gradients.size()) {
      fail<ShapeError>(op.name, "got ", tensors.size(), " and ", gradients.size(),
                       " tensors, expected as many of each kind");
    }
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (gradients[i]) inputs.push_back(tensors[i]);
    }
  }
  if (inputs.size() == 1) return;
  apply(op, std::span<const Tensor>(inputs), attributes);
  for (const std::span<const Tensor>& tensors : kinds) {
    if (&tensors == kinds.begin() + 1) continue;  // the gradients stay as they are
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (gradients[i]) ++tensors[i].storage()->version;
    }
  }
}

}  // namespace

const OpDef sgd_op = {
    .name = "sgd",
    .layout = [](const Signature& s) { return update_layout<SgdAttributes>("sgd", s); },
    .cost = [](const Signature& s) { return update_cost<SgdAttributes>(s, 7); },
    .optional = 1,
    .cpu = {[](const ForwardArgs& a) {
      dispatch_float(a.inputs[1].dtype, "sgd", [&]<class T>() { sgd_forward<T>(a); });
    }},
};

const OpDef adamw_op = {
    .name = "adamw",
    .layout = [](const Signature& s) { return update_layout<AdamwAttributes>("adamw", s); },
    .cost = [](const Signature& s) { return update_cost<AdamwAttributes>(s, 15); },
    .optional = 1,
    .cpu = {[](const ForwardArgs& a) {
      dispatch_float(a.inputs[1].dtype, "adamw", [&]<class T>() { adamw_forward<T>(a); });
    }},
};

const OpDef ema_op = {
    .name = "ema",
    .layout = [](const Signature& s) { return update_layout<EmaAttributes>("ema", s); },
    .cost = [](const Signature& s) { return update_cost<EmaAttributes>(s, 3); },
    .optional = 1,
    .cpu = {[](const ForwardArgs& a) {
      dispatch_float(a.inputs[1].dtype, "ema", [&]<class T>() { ema_forward<T>(a); });
    }},
};

void sgd(std::span<const Tensor> parameters, std::span<const Tensor> gradients, std::span<const Tensor> momenta,
         const SgdAttributes& attributes, const Tensor& norm) {
  if (attributes.momentum == 0) return update(sgd_op, attributes, norm, {parameters, gradients});
  update(sgd_op, attributes, norm, {parameters, gradients, momenta});
}

void adamw(std::span<const Tensor> parameters, std::span<const Tensor> gradients, std::span<const Tensor> first_moments,
           std::span<const Tensor> second_moments, const AdamwAttributes& attributes, const Tensor& norm) {
  update(adamw_op, attributes, norm, {parameters, gradients, first_moments, second_moments});
}

void ema(std::span<const Tensor> averages, std::span<const Tensor> values, const EmaAttributes& attributes) {
  update(ema_op, attributes, {}, {averages, values});
}

}  // namespace parabola
