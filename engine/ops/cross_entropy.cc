#include "engine/ops/cross_entropy.h"

#include <algorithm>

#include "engine/core/error.h"
#include "engine/ops/class_targets.h"
#include "engine/ops/column_stats.h"
#include "engine/ops/lanes.h"
#include "engine/ops/vector_math.h"

namespace parabola {
namespace {

void check_labels(const int32_t* labels, int64_t rows, int64_t classes) {
  for (int64_t row = 0; row < rows; ++row) {
    if (labels[row] < 0 || labels[row] >= classes) {
      fail<UsageError>("cross_entropy", "label out of range: got ", labels[row], " in row ", row, ", expected 0 to ",
                       classes - 1);
    }
  }
}

// With z = logit - maximum, a row's loss is sum t log sum exp z - sum t z.
template <class T, class Targets>
void forward(const ForwardArgs& args, const Targets& targets) {
  const int64_t rows = args.inputs[0].shape[0], classes = args.inputs[0].shape[1];
  const T* logits = args.inputs[0].data<T>();
  T *maxima = args.auxiliary[0].data<T>(), *log_sums = args.auxiliary[1].data<T>(),
    *losses = reinterpret_cast<T*>(args.workspace);
  parallel_for(rows, row_grain(classes), [=](int64_t first, int64_t last) {
    const auto sum = [=](auto term) { return lane_sum<T>(classes, term); };
    for (int64_t row = first; row < last; ++row) {
      const T *in = logits + row * classes, largest = *std::max_element(in, in + classes);
      maxima[row] = largest;
      log_sums[row] = std::log(sum([=](int64_t k) { return vector_exp(in[k] - largest); }));
      losses[row] = targets.total(row, sum) * log_sums[row] - sum([=](int64_t k) {
                      const T t = targets.at(row, k);
                      return t == 0 ? T(0) : t * (in[k] - largest);
                    });
    }
  });
  double loss = 0;
  for (int64_t row = 0; row < rows; ++row) loss += losses[row];
  *args.outputs[0].data<T>() = static_cast<T>(loss / static_cast<double>(rows));
}

template <class T, class Targets>
void backward(const BackwardArgs& args, const Targets& targets) {
  const int64_t rows = args.inputs[0].shape[0], classes = args.inputs[0].shape[1];
  const T *logits = args.inputs[0].data<T>(), *maxima = args.auxiliary[0].data<T>(),
          *log_sums = args.auxiliary[1].data<T>();
  T *d_logits = args.input_gradients[0].data<T>(), *d_targets = args.input_gradients[1].data<T>();
  const T scale = *args.output_gradients[0].data<T>() / static_cast<T>(rows);
  const bool accumulate = args.accumulates(0), accumulate_targets = args.accumulates(1);
  parallel_for(rows, row_grain(classes), [=](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T *in = logits + row * classes, largest = maxima[row], log_sum = log_sums[row];
      if (d_logits) {
        const T total = targets.total(row, [=](auto term) { return lane_sum<T>(classes, term); });
        store_or_add(d_logits + row * classes, accumulate, 0, classes, [=](int64_t k) {
          return scale * (vector_exp(in[k] - largest - log_sum) * total - targets.at(row, k));
        });
      }
      if (d_targets) {
        store_or_add(d_targets + row * classes, accumulate_targets, 0, classes,
                     [=](int64_t k) { return scale * targets.kept * (log_sum - (in[k] - largest)); });
      }
    }
  });
}

Layout layout(const Signature& s) {
  const Shape &logits = s.shape(0), &targets = s.shape(1);
  if (logits.rank() != 2 || logits.elements() == 0) {
    fail<ShapeError>("cross_entropy", "got logits of shape ", logits, ", expected [N, K], neither of them 0");
  }
  const bool labels = s.dtype(1) == DType::i32;
  if (!labels && s.dtype(1) != s.dtype()) {
    fail<DTypeError>("cross_entropy", "got targets of dtype ", name_of(s.dtype(1)), ", expected i32 for labels or ",
                     name_of(s.dtype()), " for probabilities");
  }
  if (targets != (labels ? Shape{logits[0]} : logits)) {
    fail<ShapeError>("cross_entropy", labels ? "labels" : "probabilities", " do not fit logits of shape ", logits,
                     ": got ", targets, ", expected ", labels ? Shape{logits[0]} : logits);
  }
  const double smoothing = s.attributes.get<CrossEntropyAttributes>().label_smoothing;
  if (!(smoothing >= 0 && smoothing <= 1)) {
    fail<UsageError>("cross_entropy", "got label_smoothing ", smoothing, ", expected 0 to 1");
  }
  const TensorSpec row{Shape{logits[0]}, s.dtype()};
  return {.outputs = {{Shape{}, s.dtype()}}, .auxiliary = {row, row}, .forward_workspace = row.bytes()};
}

StepCost cost(const Signature& s) {
  // The maximum 1, exp 14, its argument and the sum 2, the target 2; backward exp 14, its argument 2, dlogits 2.
  StepCost cost = elementwise_cost(s, 19, 18);
  cost.forward.bytes_read += static_cast<double>(s.inputs[1].bytes());
  return cost;
}

Needs needs(const Signature& s) { return {.inputs = s.wants_gradient(0) ? 3U : 1U, .auxiliary = 3}; }

}  // namespace

const OpDef cross_entropy_op = {
    .name = "cross_entropy",
    .layout = layout,
    .cost = cost,
    .needs = needs,
    .cpu = {[](const ForwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "cross_entropy", [&]<class T>() {
                if (a.inputs[1].dtype == DType::i32)
                  check_labels(a.inputs[1].data<int32_t>(), a.inputs[0].shape[0], a.inputs[0].shape[1]);
                with_targets<T>(a.attributes, a.inputs[0], a.inputs[1], [&](auto targets) { forward<T>(a, targets); });
              });
            },
            [](const BackwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "cross_entropy", [&]<class T>() {
                with_targets<T>(a.attributes, a.inputs[0], a.inputs[1], [&](auto targets) { backward<T>(a, targets); });
              });
            }},
};

Tensor cross_entropy(const Tensor& logits, const Tensor& targets, const CrossEntropyAttributes& attributes) {
  return apply(cross_entropy_op, {logits, targets}, attributes);
}

}  // namespace parabola
