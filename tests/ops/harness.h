// One op case is data; check_op derives the tests from it:
//   forward, f64 and f32, against a naive reference in double          gradients against central differences in f64
//   f32 gradients against the f64 ones                                  accumulation: a second backward adds
//   replay (everything recomputed) and every variant: the same bits     1 and 3 threads: the same bits
//   each gradient alone (the others not wanted): the same bits
// Where PARABOLA_TEST_DEVICE names another device than the CPU, it is compared with the CPU instead
// (device_harness.cc).
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "engine/core/op.h"

namespace parabola::test {

using Array = std::vector<double>;

struct Input {
  Shape shape;
  double low = -1, high = 1;  // values are uniform in [low, high)
  bool gradient = true;       // false: frozen, or not differentiable
  int classes = 0;            // > 0: an i32 tensor of labels in [0, classes)
  bool absent = false;        // an optional input left out
  double kink = 0;            // values are kept `kink` away from 0, where the op is not differentiable
};

struct OpCase {
  std::string name;  // says what is special: "stride 2, dilation 3"
  const OpDef* op;
  std::vector<Input> inputs;
  Attributes attributes = {};
  // All outputs from all inputs (absent ones are empty), straight from the formula.
  std::function<std::vector<Array>(const std::vector<Array>&)> reference;
  // Norm-wise relative tolerances. f64: rounding of sums of some hundred terms. f32: the same with 2^-24. Differences:
  // the step is 1e-5 of the value, so the truncation error is 1e-10 of it and rounding 1e-16 / 1e-5.
  double f64_tolerance = 1e-12, f32_tolerance = 2e-6, difference_tolerance = 1e-7;
  int max_differences = 60;  // elements probed per input, spread evenly
};

void check_op(const OpCase& op_case);

// Names of ops that have had at least one case; ops_test.cc compares with the registry.
const std::vector<std::string>& checked_ops();
// For ops that only change their inputs, which no case can describe: their own tests say that they have run.
void count_as_checked(const OpDef& op);

// The largest |a - b| over the larger of |a|'s norm per sqrt(n) and tiny, i.e. norm-wise: ||a - b|| / ||b||.
double relative_error(const Array& actual, const Array& expected);
Array array_of(const Tensor& tensor);  // on any device; none of an undefined tensor

Array random_array(int64_t elements, double low, double high, uint32_t item, double kink = 0);
Tensor random_tensor(const Shape& shape, uint32_t item, double low = -1, double high = 1);  // f32, on the test's device

// The worst relative error of the gradients of sum(w * op(inputs)): by the tape against central differences, and of two
// backward passes, which must add up, against twice the first. For ops with a planted mistake, which must be caught.
double worst_gradient_error(const OpCase& op_case);

}  // namespace parabola::test
