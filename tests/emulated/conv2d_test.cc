// Convolutions that go through columns and cuBLAS, because TF32 is allowed and there are many channels.
#include "engine/ops/conv2d/conv2d.h"

#include "engine/blas/precision.h"
#include "tests/ops/run_case.h"
#include "tests/support/test.h"

using namespace parabola;
using namespace parabola::test;

TEST_CASE("conv2d: by columns where TF32 is allowed and channels are many") {
  const OpCase c{.name = "128 to 130 channels, in parts of an image",
                 .op = &conv2d_op,
                 .inputs = {{.shape = {2, 4, 3, 128}}, {.shape = {130, 2, 3, 128}}, {.shape = {130}}},
                 .attributes = ConvAttributes{.stride = 2, .padding = 1}};
  const Device device{DeviceKind::cuda, 0};
  CHECK(device_error(device, c) < 1e-6);
  allow_tf32(true);
  const double error = device_error(device, c);
  allow_tf32(false);
  CHECK(error > 1e-5);  // 10 bits of fraction: not computed without columns, in float32
  CHECK(error < 1e-3);
}
