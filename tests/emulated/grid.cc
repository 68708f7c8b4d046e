#include "tests/emulated/grid.h"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <exception>
#include <memory>

#include "engine/core/error.h"
#include "engine/cuda/emulated.h"
#include "tests/emulated/fibre.h"

namespace parabola::emulated {
namespace {

constexpr unsigned lanes_in_warp = 32;

enum class Wait : uint8_t { none, block, warp };
struct Thread {
  uint3 index;
  Fibre* fibre = nullptr;  // from its start to its end
  Wait waits = Wait::none;
  std::source_location where;
};

struct Warp {
  unsigned arrived = 0;
  int turn = 0;  // which of the two sets of slots the next exchange uses: a slow lane may still read the last one's
  alignas(8) std::byte slots[2][8 * lanes_in_warp];
};

// The block that runs now.
struct Block {
  const ThreadBody* body;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::deque<unsigned> ready;  // threads whose wait is over
  unsigned current = 0, started = 0, ended = 0, arrived = 0;
  std::exception_ptr error;
};

Block block;
std::vector<std::unique_ptr<Fibre>> fibres;
std::vector<Fibre*> idle;  // those between two threads
Fibre* running = nullptr;
Fibre& host() {
  static Fibre fibre;
  return fibre;
}
Order order = Order::forward;
std::byte* shared = nullptr;
const void* running_kernel = nullptr;
std::map<const void*, int64_t> launch_counts;

void go_to(Fibre& next) {
  Fibre& from = *running;
  running = &next;
  from.switch_to(next);
}

void take_turn(unsigned thread) {
  block.current = thread;
  block.threads[thread].waits = Wait::none;
  threadIdx = block.threads[thread].index;
}

void run_threads();

// Who goes on when a thread has to wait or a fibre has nothing left to do.
Fibre& next_fibre() {
  if (block.error) return host();
  if (!block.ready.empty()) {
    const unsigned thread = block.ready.front();
    block.ready.pop_front();
    return *block.threads[thread].fibre;
  }
  if (block.started == block.threads.size()) return host();
  if (idle.empty()) {
    fibres.push_back(std::make_unique<Fibre>(run_threads));
    return *fibres.back();
  }
  Fibre& fibre = *idle.back();
  idle.pop_back();
  return fibre;
}

// What every fibre does: starts threads and runs each to its end, one after the other. As long as none has to wait, one
// fibre runs them all, and a thread costs no more than a call.
void run_threads() {
  for (;;) {
    while (block.ready.empty() && block.started < block.threads.size() && !block.error) {
      const unsigned number = block.started++, last = static_cast<unsigned>(block.threads.size()) - 1;
      const unsigned thread = order == Order::forward ? number : last - number;
      block.threads[thread].fibre = running;
      take_turn(thread);
      try {
        (*block.body)();
      } catch (...) {
        block.error = std::current_exception();
      }
      block.threads[block.current].fibre = nullptr;
      ++block.ended;
    }
    idle.push_back(running);
    go_to(next_fibre());
  }
}

std::string str(const uint3& index) { return concat("(", index.x, ", ", index.y, ", ", index.z, ")"); }

std::string str(const std::source_location& where) {
  const std::string_view path = where.file_name();
  return concat(path.substr(path.rfind('/') + 1), ":", where.line());
}

std::string str(const Thread& thread) {
  std::string text = "thread " + str(thread.index);
  if (thread.waits != Wait::none)
    return text + (thread.waits == Wait::block ? " waits for its block at " : " waits for its warp at ") +
           str(thread.where);
  return text + (thread.fibre ? " runs" : " has ended");
}

[[noreturn]] void fail_in_block(const std::string& what) {
  fail<Error>("emulated grid", name_of_kernel(running_kernel), ", block ", str(blockIdx), ": ", what);
}

bool same_place(const Thread& a, const Thread& b) {
  return a.waits == b.waits && a.where.line() == b.where.line() &&
         std::string_view(a.where.file_name()) == b.where.file_name();
}

// The current thread waits for the others of [first, first + count), of which `arrived` have come before it.
void wait(Wait kind, const std::source_location& where, unsigned first, unsigned count, unsigned& arrived) {
  const unsigned self = block.current;
  Thread& thread = block.threads[self];
  thread.waits = kind;
  thread.where = where;
  if (++arrived < count) {
    go_to(next_fibre());
    return take_turn(self);
  }
  arrived = 0;
  for (unsigned i = 0; i < count; ++i) {
    const unsigned other = order == Order::forward ? first + i : first + count - 1 - i;
    if (!same_place(block.threads[other], thread))
      fail_in_block(str(thread) + ", but " + str(block.threads[other]) + "; expected all at one place");
    if (other != self) block.ready.push_back(other);
  }
  take_turn(self);
}

void wait_for_warp(Warp& warp, const std::source_location& where) {
  const unsigned threads = static_cast<unsigned>(block.threads.size());
  if (threads % lanes_in_warp != 0)
    fail_in_block(
        concat("got ", threads, " threads, expected a multiple of 32 for what warps do together (", str(where), ")"));
  wait(Wait::warp, where, block.current / lanes_in_warp * lanes_in_warp, lanes_in_warp, warp.arrived);
}

Warp& current_warp() { return block.warps[block.current / lanes_in_warp]; }

void run_block(const ThreadBody& body, dim3 size) {
  const unsigned threads = size.x * size.y * size.z;
  block.body = &body;
  block.threads.assign(threads, {});
  block.warps.assign((threads + lanes_in_warp - 1) / lanes_in_warp, {});
  block.ready.clear();
  block.started = block.ended = block.arrived = 0;
  block.error = nullptr;
  for (unsigned i = 0; i < threads; ++i)
    block.threads[i].index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
  running = &host();
  go_to(next_fibre());
  if (block.ended == threads && !block.error) return;
  // Fibres that still wait are of no use any more.
  std::erase_if(fibres,
                [](const auto& fibre) { return std::find(idle.begin(), idle.end(), fibre.get()) == idle.end(); });
  if (block.error) std::rethrow_exception(block.error);
  const Thread *waiting = nullptr, *other = nullptr;
  for (const Thread& thread : block.threads)
    if (thread.waits != Wait::none) waiting = &thread;
  for (const Thread& thread : block.threads)
    if (!same_place(thread, *waiting)) other = &thread;
  fail_in_block(str(*waiting) + ", but " + str(*other) + "; expected all at one place");
}

// What every chip since compute capability 8.0 takes.
void check_sizes(dim3 grid, dim3 size, size_t shared_bytes) {
  const uint64_t threads = uint64_t{size.x} * size.y * size.z;
  if (threads < 1 || threads > 1024 || size.z > 64)
    fail_in_block(concat("got blocks of ", size.x, " x ", size.y, " x ", size.z, " threads, expected 1 to 1024"));
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    fail_in_block(
        concat("got a grid of ", grid.x, " x ", grid.y, " x ", grid.z, " blocks, expected at most 65535 in y, z"));
  if (shared_bytes > 99 << 10)
    fail_in_block(concat("got ", shared_bytes, " bytes of shared memory, expected at most 99 KiB"));
}

struct Shared {
  explicit Shared(size_t bytes) {
    void* memory = nullptr;
    if (bytes > 0 && posix_memalign(&memory, 16, bytes) != 0) fail<Error>("emulated grid", "no shared memory");
    shared = static_cast<std::byte*>(memory);
  }
  ~Shared() {
    std::free(shared);
    shared = nullptr;
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
};

}  // namespace

void set_order(Order new_order) { order = new_order; }
const std::map<const void*, int64_t>& launches() { return launch_counts; }

void launch(const void* kernel, dim3 grid, dim3 size, size_t shared_bytes, DeviceStream stream, ThreadBody thread) {
  running_kernel = kernel;
  blockIdx = {};
  check_sizes(grid, size, shared_bytes);
  if (!is_stream(stream)) fail_in_block("got a stream of no device, expected that of the arguments");
  ++launch_counts[kernel];
  const OpenDeviceMemory open;
  const Shared memory(shared_bytes);
  gridDim = grid;
  blockDim = size;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t number = order == Order::forward ? i : blocks - 1 - i;
    blockIdx = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                static_cast<unsigned>(number / grid.x / grid.y)};
    if (shared) std::memset(shared, 0xff, shared_bytes);  // NaN, -1
    run_block(thread, size);
  }
}

std::byte* shared_memory() {
  if (!shared) fail_in_block("got no shared memory from the launch, expected some");
  return shared;
}

void block_barrier(const std::source_location& where) {
  wait(Wait::block, where, 0, static_cast<unsigned>(block.threads.size()), block.arrived);
}

void warp_barrier(const std::source_location& where) { wait_for_warp(current_warp(), where); }

const std::byte* warp_exchange(const void* value, size_t size, const std::source_location& where) {
  Warp& warp = current_warp();
  std::byte* slots = warp.slots[warp.turn];
  std::memcpy(slots + size_t{8} * (block.current % lanes_in_warp), value, size);
  if (warp.arrived + 1 == lanes_in_warp) warp.turn = 1 - warp.turn;
  wait_for_warp(warp, where);
  return slots;
}

}  // namespace parabola::emulated
