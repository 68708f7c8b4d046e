// Devices, as the engine sees them: memory, copies, errors, the step record. On the emulated device.
#include "engine/core/device.h"

#include "engine/core/error.h"
#include "engine/core/upload.h"
#include "engine/ops/relu.h"
#include "engine/tape/executor.h"
#include "engine/tape/tape.h"
#include "tests/emulated/grid.h"
#include "tests/emulated/test_kernels.h"
#include "tests/support/test.h"

using namespace parabola;

namespace parabola::test {

const OpDef read_step_op = {.name = "test_read_step", .layout = [](const Signature&) {
                              return Layout{.outputs = {{Shape{4}, DType::f64}}};
                            }};

namespace {

const Device device{DeviceKind::cuda, 0}, second{DeviceKind::cuda, 1};

Tensor floats(const std::vector<float>& values) { return Tensor::from(values, {static_cast<int64_t>(values.size())}); }

Tensor cpu_only(const Tensor& x) {
  static const OpDef op = {.name = "test_cpu_only",
                           .layout = [](const Signature& s) { return Layout{.outputs = {s.inputs[0]}}; },
                           .cpu = {[](const ForwardArgs&) {}, nullptr}};
  return apply(op, {x});
}

}  // namespace

TEST_CASE("device: tensors travel to it and back") {
  const Tensor x = floats({1, -2, 3}), there = x.to(device, Category::inputs);
  CHECK(there.device() == device);
  CHECK(there.to_vector<float>() == x.to_vector<float>());
  CHECK(there.at(1) == -2);
  CHECK(there.view({1}, 2).item() == 3);
  CHECK(there.str() == "Tensor(1, -2, 3; [3] f32 on cuda:0)");
  CHECK(there.clone(Category::inputs).device() == device);
  CHECK(there.to(second, Category::inputs).to_vector<float>() == x.to_vector<float>());
  CHECK(there.to(DType::f64, Category::inputs).to_vector<double>() == std::vector<double>{1, -2, 3});
  CHECK(Tensor::full({2}, 0, DType::f32, Category::inputs, device).at(1) == 0);
  CHECK(Tensor::full({2}, 2.5, DType::bf16, Category::inputs, device).at(1) == 2.5);
  there.view({2}).copy_from(floats({7, 8}));
  CHECK(there.to_vector<float>() == std::vector<float>{7, 8, 3});
  CHECK_THROWS_WITH_AS(there.data<float>(),
                       "[tensor] the elements of this [3] tensor are on cuda:0, expected cpu; on_cpu() copies them",
                       DeviceError);
}

TEST_CASE("device: its memory has an account of its own") {
  const Memory &cpu = Memory::of({}), &cuda = Memory::of(device), &other = Memory::of(second);
  const size_t on_cpu = cpu.live_bytes(Category::activations), on_cuda = cuda.live_bytes(Category::activations),
               on_other = other.live_bytes(Category::activations);
  const Tensor x = Tensor::empty({10}, DType::f64, Category::activations, device);
  CHECK(cuda.live_bytes(Category::activations) == on_cuda + 80);
  CHECK(cpu.live_bytes(Category::activations) == on_cpu);
  CHECK(other.live_bytes(Category::activations) == on_other);
  x.storage()->evict();
  CHECK(cuda.live_bytes(Category::activations) == on_cuda);
}

TEST_CASE("device: what is not there or does not fit is said in one line") {
  CHECK_NOTHROW(require_device(second));
  CHECK_THROWS_WITH_AS(require_device({DeviceKind::cuda, 2}),
                       "[device] no cuda:2: got 2 emulated devices, expected a number from 0 to 1", DeviceError);
  CHECK_THROWS_AS(floats({1}).to(Device{DeviceKind::cuda, 2}, Category::inputs), DeviceError);
  const Tensor here = floats({1}), there = here.to(device, Category::inputs);
  CHECK_THROWS_WITH_AS(cpu_only(there), "[test_cpu_only] has no CUDA kernel", DeviceError);
  CHECK_THROWS_WITH_AS(apply(read_step_op, {here}), "[test_read_step] has no CPU kernel", DeviceError);
  CHECK_THROWS_WITH_AS(apply(read_step_op, {here, there}),
                       "[test_read_step] inputs are on cpu and cuda:0, expected one device", DeviceError);
}

TEST_CASE("device: out of memory is an error after which all goes on") {
  Memory& memory = Memory::of(device);
  const Tensor x = floats({-1, 2, 3}).to(device, Category::inputs);
  x.set_requires_gradient(true);
  const size_t live = memory.activation_bytes();
  emulated::set_memory_limit(0);
  {
    Tape tape;
    CHECK_THROWS_WITH_AS(relu(x), "[memory] cuda:0 has no 12 bytes left", MemoryError);
  }
  emulated::set_memory_limit(size_t{1} << 30);
  CHECK(memory.activation_bytes() == live);
  CHECK(x.at(1) == 2);
  Tape tape;
  CHECK(relu(x).to_vector<float>() == std::vector<float>{0, 2, 3});
}

TEST_CASE("device: kernels read the step record from the device, and the newest one") {
  const Tensor x = floats({1}).to(device, Category::inputs);
  StepRecord& step = Executor::instance().step;
  const StepRecord before = step;
  for (const double rate : {0.5, 0.25}) {
    step = {.seed = 3, .step = 4, .learning_rate = rate, .update = 7};
    CHECK(apply(read_step_op, {x}).to_vector<double>() == std::vector<double>{3, 4, rate, 7});
  }
  const Tensor y = floats({1}).to(second, Category::inputs);
  CHECK(apply(read_step_op, {y}).at(2) == 0.25);
  step = before;
}

TEST_CASE("device: a batch travels beside the work, and is there when it is asked for") {
  for (const Device target : {Device{}, device}) {
    Upload upload(target);
    Tensor batch = floats({1, 2});
    upload.start(batch);
    if (target == device) batch.data<float>()[0] = 9;  // the copy has left already
    const Tensor there = upload.finish();
    CHECK(there.device() == target);
    CHECK(there.to_vector<float>() == std::vector<float>{1, 2});
    upload.start(floats({5}));
    CHECK(upload.finish().item() == 5);
  }
}

TEST_CASE("device: NaN and infinity are found there as well") {
  Executor::instance().check_finite = true;
  const Tensor x = Tensor::full({3}, INFINITY, DType::f32, Category::inputs, device);
  CHECK_THROWS_WITH_AS(
      relu(x), "[relu] forward produced inf at flat index 0 of result 0 of shape [3], expected finite values", Error);
  Executor::instance().check_finite = false;
}

}  // namespace parabola::test
