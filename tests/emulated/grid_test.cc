// The emulated grid itself: what is right runs as on a chip, and what is wrong is caught.
#include "tests/emulated/grid.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/core/error.h"
#include "engine/ops/elementwise.h"
#include "tests/emulated/test_kernels.h"
#include "tests/ops/run_case.h"
#include "tests/support/test.h"

extern "C" [[gnu::weak]] void __asan_poison_memory_region(const volatile void* address, size_t size);

using namespace parabola;
using namespace parabola::test;
using emulated::Order;

namespace parabola::test {
namespace {

const Device device{DeviceKind::cuda, 0};
DeviceStream stream() { return backend_of(device).stream(0); }

template <class T>
Tensor on_device(const std::vector<T>& values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())}).to(device, Category::inputs);
}
template <class T>
T* pointer(const Tensor& tensor) {
  return reinterpret_cast<T*>(tensor.raw());
}

std::vector<float> some_floats(int64_t count) {
  const Array values = random_array(count, -1, 1, 3);
  return {values.begin(), values.end()};
}

std::vector<float> tree_sums(int blocks, int threads, Mistake mistake = Mistake::none) {
  const Tensor x = on_device(some_floats(blocks * threads));
  const Tensor sums = Tensor::empty({blocks}, DType::f32, Category::inputs, device);
  tree_sum(stream(), pointer<float>(x), pointer<float>(sums), blocks, threads, mistake);
  return sums.to_vector<float>();
}

struct InReverse {
  InReverse() { emulated::set_order(Order::reverse); }
  ~InReverse() { emulated::set_order(Order::forward); }
};

// What a process that ends in `body` writes as its last words; empty where it survives.
template <class Body>
std::string last_words(Body&& body) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    body();
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char piece[4096];
  for (ssize_t count; (count = read(ends[0], piece, sizeof piece)) > 0;) text.append(piece, static_cast<size_t>(count));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : text;
}

bool sanitized() { return __asan_poison_memory_region != nullptr; }

}  // namespace

TEST_CASE("emulated grid: blocks, barriers and shared memory") {
  for (const int threads : {1, 2, 32, 64, 256, 1024}) {
    const int blocks = 3;
    const std::vector<float> x = some_floats(blocks * threads), sums = tree_sums(blocks, threads);
    for (int block = 0; block < blocks; ++block) {
      double expected = 0;
      for (int i = 0; i < threads; ++i) expected += static_cast<double>(x[static_cast<size_t>(block * threads + i)]);
      CHECK(std::abs(static_cast<double>(sums[static_cast<size_t>(block)]) - expected) < 1e-5 * threads);
    }
    const InReverse reverse;
    CHECK(tree_sums(blocks, threads) == sums);
  }
}

TEST_CASE("emulated grid: indices in three dimensions") {
  int blocks[] = {3, 2, 5}, threads[] = {7, 3, 2};
  const int count = 3 * 2 * 5 * 7 * 3 * 2;
  const Tensor out = Tensor::full({count}, 0, DType::i32, Category::inputs, device);
  number_threads(stream(), pointer<int>(out), blocks, threads);
  const std::vector<int> numbers = out.to_vector<int>();
  for (int i = 0; i < count; ++i) CHECK(numbers[static_cast<size_t>(i)] == i + 1);
}

TEST_CASE("emulated grid: shuffles, votes and reductions") {
  const int threads = 96;
  std::vector<double> x(threads);
  for (int i = 0; i < threads; ++i) x[static_cast<size_t>(i)] = (i * 37 % 41) - 8;
  const Tensor in = on_device(x), out = Tensor::full({threads * warp_results}, 0, DType::f64, Category::inputs, device);
  std::vector<double> results[2];
  for (const Order order : {Order::forward, Order::reverse}) {
    emulated::set_order(order);
    warp_functions(stream(), pointer<double>(in), pointer<double>(out), threads);
    results[static_cast<int>(order)] = out.to_vector<double>();
  }
  emulated::set_order(Order::forward);
  CHECK(results[0] == results[1]);
  double block_sum = 0, block_max = -INFINITY;
  for (const double value : x) block_sum += value, block_max = std::max(block_max, value);
  for (int i = 0; i < threads; ++i) {
    const int lane = i % 32, first = i - lane;
    const double* warp = x.data() + first;
    double votes = 0, sum = 0, largest = -INFINITY, smallest = INFINITY;
    for (int k = 0; k < 32; ++k) {
      votes += warp[k] > 0 ? std::exp2(k) : 0;
      sum += warp[k];
      largest = std::max(largest, warp[k]);
      smallest = std::min(smallest, warp[k]);
    }
    const double expected[warp_results] = {warp[3],
                                           warp[lane ^ 5],
                                           warp[lane + 9 < 32 ? lane + 9 : lane],
                                           warp[lane >= 9 ? lane - 9 : lane],
                                           votes,
                                           largest > 30 ? 1.0 : 0.0,
                                           1.0,
                                           smallest > 0 ? 1.0 : 0.0,
                                           sum,
                                           largest,
                                           block_sum,
                                           block_max};
    for (int k = 0; k < warp_results; ++k) {
      INFO("thread ", i, ", function ", k);
      CHECK(results[0][static_cast<size_t>(i * warp_results + k)] == expected[k]);
    }
  }
}

TEST_CASE("emulated grid: shared memory starts as NaN, so that nobody relies on it") {
  const Tensor out = Tensor::full({32}, 0, DType::f32, Category::inputs, device);
  first_shared(stream(), pointer<float>(out));
  CHECK(std::ranges::all_of(out.to_vector<float>(), [](float value) { return std::isnan(value); }));
  CHECK(std::isnan(Tensor::empty({}, DType::f64, Category::inputs, device).item()));
}

TEST_CASE("emulated grid: a switch of threads is cheap enough for whole suites") {
  const Tensor out = Tensor::full({2048}, 0, DType::f32, Category::inputs, device);
  many_barriers(stream(), pointer<float>(out), 200);  // 800,000 switches: a fraction of a second
  CHECK(out.at(2047) == 199 * 100);
}

TEST_CASE("emulated grid: threads that wait at different places are named") {
  const std::string where = "[emulated grid] parabola::test::(anonymous namespace)::test_tree_sum";
  const auto complaint = [](int threads, Mistake mistake) -> std::string {
    try {
      tree_sums(2, threads, mistake);
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing";
  };
  const std::string early = complaint(64, Mistake::early_return);
  CHECK(early.starts_with(where));
  CHECK(early.find("block (0, 0, 0): thread (63, 0, 0) waits for its block at test_kernels.cu:") != std::string::npos);
  CHECK(early.find("but thread (5, 0, 0) has ended; expected all at one place") != std::string::npos);
  const std::string two = complaint(64, Mistake::two_barriers);
  CHECK(two.find("waits for its block at test_kernels.cu:") != std::string::npos);
  const std::string lane = complaint(64, Mistake::one_lane);
  CHECK(lane.find("thread (7, 0, 0) waits for its warp at test_kernels.cu:") != std::string::npos);
  CHECK(complaint(48, Mistake::none) == "nothing");
  CHECK(complaint(8, Mistake::one_lane).find("got 8 threads, expected a multiple of 32") != std::string::npos);
  CHECK(complaint(2048, Mistake::none).find("got blocks of 2048 x 1 x 1 threads, expected 1 to 1024") !=
        std::string::npos);
  CHECK(complaint(64, Mistake::none) == "nothing");  // all is well again after a complaint
}

TEST_CASE("emulated grid: a missing barrier changes the result in one order or the other") {
  const std::vector<float> expected = tree_sums(2, 64);
  bool right = tree_sums(2, 64, Mistake::no_barrier) == expected;
  const InReverse reverse;
  right = right && tree_sums(2, 64, Mistake::no_barrier) == expected;
  CHECK_FALSE(right);
}

TEST_CASE("emulated grid: a wrong index past the end of device or shared memory is caught") {
  if (!sanitized()) SKIP("needs AddressSanitizer");
  const std::string past_end = last_words([] { tree_sums(2, 64, Mistake::past_the_end); });
  CHECK(past_end.find("heap-buffer-overflow") != std::string::npos);
  CHECK(past_end.find("test_tree_sum") != std::string::npos);
  CHECK(last_words([] { tree_sums(2, 64, Mistake::past_shared_memory); }).find("heap-buffer-overflow") !=
        std::string::npos);
  CHECK(last_words([] { tree_sums(2, 64); }).empty());
}

TEST_CASE("emulated grid: the host cannot touch device memory") {
  if (!sanitized()) SKIP("needs AddressSanitizer");
  const Tensor x = on_device<float>({1, 2});
  CHECK(last_words([&] { *pointer<volatile float>(x) = 3; }).find("use-after-poison") != std::string::npos);
}

namespace {
template <class T>
void plain_twice(const TensorView& x, const TensorView& y, bool accumulate) {
  for (int64_t i = 0; i < x.shape.elements(); ++i)
    y.data<T>()[i] = (accumulate ? y.data<T>()[i] : 0) + 2 * x.data<T>()[i];
}
constexpr OpDef twice_op(const char* name) {
  return {.name = name,
          .layout = same_as_input,
          .cpu = {[](const ForwardArgs& a) {
                    dispatch_float(a.inputs[0].dtype, "test_twice",
                                   [&]<class T>() { plain_twice<T>(a.inputs[0], a.outputs[0], false); });
                  },
                  [](const BackwardArgs& a) {
                    dispatch_float(a.output_gradients[0].dtype, "test_twice", [&]<class T>() {
                      plain_twice<T>(a.output_gradients[0], a.input_gradients[0], a.accumulates(0));
                    });
                  }}};
}
}  // namespace

const OpDef wrong_forward_op = twice_op("test_wrong_forward"), wrong_backward_op = twice_op("test_wrong_backward");

TEST_CASE("emulated grid: a wrong index inside of the memory is caught by comparison with the CPU") {
  for (const OpDef* op : {&wrong_forward_op, &wrong_backward_op}) {
    CHECK(device_error(device, {.name = "planted", .op = op, .inputs = {{.shape = {5, 7}}}}) > 0.1);
    CHECK(device_error(device, {.name = "too small to tell", .op = op, .inputs = {{.shape = {1}}}}) == 0);
  }
}

TEST_CASE("emulated grid: names and counts of kernels") {
  const auto& linked = emulated::linked_kernels();
  const auto found = std::ranges::find_if(linked, [](const auto& kernel) { return kernel.name == "test_tree_sum"; });
  REQUIRE(found != linked.end());
  const auto count = [&] {
    const auto entry = emulated::launches().find(found->address);
    return entry == emulated::launches().end() ? 0 : entry->second;
  };
  const int64_t before = count();
  tree_sums(2, 32);
  CHECK(count() == before + 1);
  const std::vector<std::string> names = emulated::kernels_in_sources("tests/emulated");
  CHECK(std::ranges::count(names, "test_tree_sum") == 1);
  CHECK(std::ranges::count(names, "test_twice") == 1);
  CHECK(names.size() == 7);
}

}  // namespace parabola::test
