#include "engine/ops/cross_entropy.h"

#include <algorithm>

#include "engine/core/error.h"
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

// With z = logit - maximum, a row's loss is log sum exp z - sum t z for its target t: here 1 at the label, 0 elsewhere.
template <class T>
void forward(const ForwardArgs& args) {
  const int64_t rows = args.inputs[0].shape[0], classes = args.inputs[0].shape[1];
  const T* logits = args.inputs[0].data<T>();
  const int32_t* labels = args.inputs[1].data<int32_t>();
  T *maxima = args.auxiliary[0].data<T>(), *log_sums = args.auxiliary[1].data<T>();
  check_labels(labels, rows, classes);
  parallel_for(rows, row_grain(classes), [=](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T *in = logits + row * classes, largest = *std::max_element(in, in + classes);
      maxima[row] = largest;
      log_sums[row] = std::log(lane_sum<T>(classes, [=](int64_t k) { return vector_exp(in[k] - largest); }));
    }
  });
  double loss = 0;
  for (int64_t row = 0; row < rows; ++row) loss += log_sums[row] - (logits[row * classes + labels[row]] - maxima[row]);
  *args.outputs[0].data<T>() = static_cast<T>(loss / static_cast<double>(rows));
}

template <class T>
void backward(const BackwardArgs& args) {
  const int64_t rows = args.inputs[0].shape[0], classes = args.inputs[0].shape[1];
  const T *logits = args.inputs[0].data<T>(), *maxima = args.auxiliary[0].data<T>(),
          *log_sums = args.auxiliary[1].data<T>();
  const int32_t* labels = args.inputs[1].data<int32_t>();
  T* d_logits = args.input_gradients[0].data<T>();
  const T scale = *args.output_gradients[0].data<T>() / static_cast<T>(rows);
  const bool accumulate = args.accumulates(0);
  parallel_for(rows, row_grain(classes), [=](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T *in = logits + row * classes, largest = maxima[row], log_sum = log_sums[row];
      T* out = d_logits + row * classes;
      const int64_t label = labels[row];
      for (int64_t k = 0; k < classes; ++k) {
        const T probability = vector_exp(in[k] - largest - log_sum), d = scale * (probability - (k == label ? 1 : 0));
        out[k] = accumulate ? out[k] + d : d;
      }
    }
  });
}

Layout layout(const Signature& s) {
  const Shape &logits = s.shape(0), &labels = s.shape(1);
  if (logits.rank() != 2 || logits.elements() == 0) {
    fail<ShapeError>("cross_entropy", "got logits of shape ", logits, ", expected [N, K], neither of them 0");
  }
  if (s.dtype(1) != DType::i32) {
    fail<DTypeError>("cross_entropy", "got labels of dtype ", name_of(s.dtype(1)), ", expected i32");
  }
  if (labels != Shape{logits[0]}) {
    fail<ShapeError>("cross_entropy", "labels do not fit logits of shape ", logits, ": got ", labels, ", expected ",
                     Shape{logits[0]});
  }
  const TensorSpec row{labels, s.dtype()};
  return {.outputs = {{Shape{}, s.dtype()}}, .auxiliary = {row, row}};
}

}  // namespace

const OpDef cross_entropy_op = {
    .name = "cross_entropy",
    .layout = layout,
    // The maximum 1, exp 14, its argument and the sum 2; backward exp 14, its argument 2, dlogits 2.
    .cost = [](const Signature& s) { return elementwise_cost(s, 17, 18); },
    .needs = [](const Signature&) { return Needs{.inputs = 3, .auxiliary = 3}; },
    .cpu = {[](const ForwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "cross_entropy", [&]<class T>() { forward<T>(a); });
            },
            [](const BackwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "cross_entropy", [&]<class T>() { backward<T>(a); });
            }},
};

Tensor cross_entropy(const Tensor& logits, const Tensor& labels) { return apply(cross_entropy_op, {logits, labels}); }

}  // namespace parabola
