#include "tests/ops/golden.h"

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/ops/binary.h"
#include "engine/ops/reduce.h"
#include "engine/tape/tape.h"
#include "tests/ops/harness.h"

namespace parabola::test {
namespace {

const Safetensors& file() {
  static const Safetensors opened("tests/golden/ops.safetensors");
  return opened;
}

// By hand, since an op would be recorded on the test's tape.
Tensor channels_last(const Tensor& image) {
  const Shape& shape = image.shape();
  const int64_t channels = shape[1], pixels = shape[2] * shape[3];
  const Tensor result = Tensor::empty({shape[0], shape[2], shape[3], channels}, DType::f64, Category::inputs);
  for (int64_t i = 0; i < image.elements(); ++i) {
    const int64_t n = i / (channels * pixels), c = i / pixels % channels, pixel = i % pixels;
    result.data<double>()[(n * pixels + pixel) * channels + c] = image.data<double>()[i];
  }
  return result;
}

}  // namespace

GoldenCase::GoldenCase(std::string name, DType dtype, bool images)
    : name_(std::move(name)), dtype_(dtype), images_(images) {}

Tensor GoldenCase::get(const std::string& tensor) const {
  const TensorEntry* entry = file().find(name_ + "/" + tensor);
  if (!entry) fail<UsageError>("golden", "no tensor ", name_, "/", tensor);
  const bool integers = entry->dtype == FileDType::i32;
  Tensor read = Tensor::empty(entry->shape, integers ? DType::i32 : DType::f64, Category::inputs);
  file().read(*entry, read.dtype(), read.raw(), read.bytes());
  if (integers) return read;
  if (images_ && read.shape().rank() == 4) read = channels_last(read);
  return read.to(dtype_, Category::inputs);
}

Tensor GoldenCase::leaf(const std::string& tensor) const {
  const Tensor t = get(tensor);
  t.set_requires_gradient(true);
  return t;
}

void GoldenCase::check(const std::string& tensor, const Tensor& actual) const {
  INFO("golden ", name_, "/", tensor, ", ", std::string(name_of(dtype_)));
  const Tensor expected = get(tensor);
  REQUIRE(actual.defined());
  CHECK(actual.shape() == expected.shape());
  CHECK(relative_error(array_of(actual), array_of(expected)) <= (dtype_ == DType::f64 ? 1e-12 : 2e-6));
}

void GoldenCase::check_gradients(const Tensor& output,
                                 const std::vector<std::pair<std::string, Tensor>>& leaves) const {
  check("output", output);
  Tape::current()->backward(sum(output * get("upstream")));
  for (const auto& [name, leaf] : leaves) check("grad/" + name, leaf.gradient());
}

}  // namespace parabola::test
