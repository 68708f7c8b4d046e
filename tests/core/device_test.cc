#include "engine/core/device.h"

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/core/op.h"

namespace parabola::device_test {

TEST_CASE("device: the CPU is always there; one that is not says so in one line") {
  CHECK_NOTHROW(require_device({}));
  CHECK_NOTHROW(synchronize({}));
  const Device absent{DeviceKind::cuda, 99};
  CHECK_THROWS_AS(require_device(absent), DeviceError);
  CHECK_THROWS_AS(Tensor::empty({2}, DType::f32, Category::inputs, absent), DeviceError);
  try {
    require_device(absent);
  } catch (const DeviceError& error) {
    const std::string message = error.what();
    CHECK(message.find('\n') == std::string::npos);
    CHECK(message.find("cuda:99") != std::string::npos);
  }
}

TEST_CASE("device: tensors that are on the CPU are copied and shared as they say") {
  const Tensor x = Tensor::from(std::vector<float>{1, 2}, {2});
  CHECK(x.on_cpu().raw() == x.raw());
  const Tensor copy = x.to(Device{}, Category::parameters);
  CHECK(copy.raw() != x.raw());
  CHECK(copy.to_vector<float>() == x.to_vector<float>());
  CHECK(copy.storage()->category() == Category::parameters);
}

TEST_CASE("device: an op without CUDA kernels has no entry, and no workspace on CUDA") {
  const OpDef op = {.name = "test_none", .layout = [](const Signature& s) {
                      return Layout{.outputs = {s.inputs[0]}, .forward_workspace = 8, .backward_workspace = 16};
                    }};
  CHECK(CudaKernels::of(op) == nullptr);
  const std::vector<TensorSpec> inputs = {{Shape{3}}};
  const Attributes none;
  const Signature signature{none, inputs};
  CHECK(layout_of(op, signature, {}).forward_workspace == 8);
  CHECK(layout_of(op, signature, {DeviceKind::cuda, 0}).forward_workspace == 0);
  CHECK(layout_of(op, signature, {DeviceKind::cuda, 0}).backward_workspace == 0);
}

}  // namespace parabola::device_test
