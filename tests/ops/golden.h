// One case of tests/golden/ops.safetensors (see the README there), for tests that compare an op with PyTorch.
//
//   const GoldenCase golden("gelu");
//   const Tensor x = golden.leaf("input");
//   golden.check_gradients(gelu(x), {{"input", x}});
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "engine/core/tensor.h"
#include "engine/io/safetensors.h"

namespace parabola::test {

class GoldenCase {
 public:
  // PyTorch's images are NCHW: with `images`, tensors of rank 4 are turned to NHWC when they are read, and `dtype` is
  // what f64 ones become.
  explicit GoldenCase(std::string name, DType dtype = DType::f64, bool images = false);

  Tensor get(const std::string& tensor) const;   // UsageError where the case has none of that name
  Tensor leaf(const std::string& tensor) const;  // the same, with a gradient wanted

  // Checks `actual` against the stored tensor of this name: norm-wise, to 1e-12 in f64 and to 2e-6 in f32, the rounding
  // of sums of some hundred terms.
  void check(const std::string& tensor, const Tensor& actual) const;

  // Checks `output`, computed on the open tape, against "output", sends "upstream" back through it, and checks the
  // gradient of each (name, leaf) against "grad/<name>".
  void check_gradients(const Tensor& output, const std::vector<std::pair<std::string, Tensor>>& leaves) const;

 private:
  std::string name_;
  DType dtype_;
  bool images_;
};

}  // namespace parabola::test
