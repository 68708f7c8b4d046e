#include "engine/core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/core/error.h"
#include "engine/core/pool_thread.h"

namespace parabola {
namespace {
// Rounds of looking for work before a thread sleeps: some ten microseconds, about the gap between two ops. Longer spins
// burn the time of other processes (the weakness of OpenMP's default on a shared machine).
constexpr int spin_rounds = 2000;
constexpr std::chrono::microseconds stall(30);  // without processor time within a task, after which a worker is moved
constexpr int64_t large_job = 16;               // tasks; what packs weights or adds up parts has fewer
thread_local int current_worker = -1;           // inside of a task: who runs it
thread_local int64_t likely_next = -1;          // and which task comes next

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}
}  // namespace

// A job is done when its tasks are done, not when every worker has looked at it: a worker that the machine has put to
// sleep for a neighbour's sake is not waited for. For that, the `ticket` of each share holds the job's number and the
// share's tasks left to claim in one word. A task is claimed by a compare-and-swap that takes one off, so it can only
// be claimed from a job that still runs.
//
// A thread's share are neighbouring tasks, job after job at the same place of the axis that is cut, so what it reads is
// mostly what it has written: that lies in its own caches, which matters most where threads share none (processors of
// two dies; there a step of resnet20 took a third longer when each took the next task of all). Large jobs go through
// their shares upwards and downwards in turn, so that one begins with what the one before has left in the cache.
//
// Beside a busy neighbour two things cost more than the neighbour's fair share, and are mended where they are seen.
// Where no processor is idle, a woken thread starts beside the one that woke it and stays there, so that two threads of
// the pool share a processor while the neighbour has one to itself: a worker that finds itself on the caller's
// processor leaves it. And a worker that loses its processor in the middle of a task is waited for, while the caller's
// own processor idles: it goes on there until the task is done.
struct ThreadPool::State {
  std::mutex mutex, one_job;
  std::condition_variable work_ready, work_done;
  static constexpr int task_bits = 40;
  struct alignas(64) Share {
    std::atomic<uint64_t> ticket{0};
  };
  std::vector<Share> shares;     // each thread's tasks; a thread that has none left takes others'
  std::atomic<uint64_t> job{0};  // its number; stored after all that belongs to it
  std::atomic<int64_t> tasks{0}, unfinished{0};
  std::atomic<bool> downwards{false};
  std::atomic<const TaskRef*> body{nullptr};
  std::atomic<int> callers_processor{-1};
  std::atomic<bool> stop{false};
  std::exception_ptr error;
  std::vector<PoolThread> threads;    // of the workers; the caller's is never busy
  std::vector<std::jthread> workers;  // last, hence joined first: until then they use all of the above

  explicit State(int count) : shares(static_cast<size_t>(count)), threads(static_cast<size_t>(count)) {
    for (int worker = 1; worker < count; ++worker) workers.emplace_back([this, worker] { loop(worker); });
  }
  ~State() {
    {
      std::lock_guard lock(mutex);
      stop.store(true);
    }
    work_ready.notify_all();
  }

  static uint64_t job_of(uint64_t t) { return t >> task_bits; }
  static int64_t left_in(uint64_t t) { return static_cast<int64_t>(t & ((uint64_t{1} << task_bits) - 1)); }

  // Share `share` begins at this one of so many tasks.
  int64_t begin_of(int64_t number, size_t share) const {
    return number * static_cast<int64_t>(share) / static_cast<int64_t>(shares.size());
  }

  // Runs tasks of job `number`, first of the worker's share, until none is left to claim.
  void work(uint64_t number, int worker) {
    current_worker = worker;
    for (size_t i = 0; i < shares.size(); ++i)
      work_through((static_cast<size_t>(worker) + i) % shares.size(), number, worker);
    current_worker = -1;
  }

  void work_through(size_t share, uint64_t number, int worker) {
    PoolThread& self = threads[static_cast<size_t>(worker)];
    std::atomic<uint64_t>& ticket = shares[share].ticket;
    uint64_t t = ticket.load(std::memory_order_acquire);
    while (job_of(t) == number && left_in(t) > 0) {
      if (!ticket.compare_exchange_weak(t, t - 1, std::memory_order_acq_rel)) continue;
      self.set_busy(true);
      // Read only now: the job cannot end before the claimed task has, so all this is the claimed task's.
      try {
        const int64_t count = tasks.load(std::memory_order_relaxed), left = left_in(t);
        const bool down = downwards.load(std::memory_order_relaxed);
        const int64_t task = down ? begin_of(count, share) + left - 1 : begin_of(count, share + 1) - left;
        likely_next = left == 1 ? -1 : down ? task - 1 : task + 1;
        (*body.load(std::memory_order_relaxed))(task, worker);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
      self.set_busy(false);
      if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        std::lock_guard lock(mutex);
        work_done.notify_one();
      }
      self.return_brought();
      t = ticket.load(std::memory_order_acquire);
    }
  }

  bool is_done() const { return unfinished.load(std::memory_order_acquire) == 0; }

  // By the caller, which has no task left: waits for the workers' last ones.
  void wait_for_workers() {
    for (int i = 0; i < spin_rounds && !is_done(); ++i) pause();
    if (is_done()) return;
    for (PoolThread& thread : threads) thread.watch();
    std::unique_lock lock(mutex);
    if (work_done.wait_for(lock, stall, [&] { return is_done(); })) return;
    for (PoolThread& thread : threads)
      if (thread.has_stalled()) thread.bring_here();
    work_done.wait(lock, [&] { return is_done(); });
  }

  void loop(int worker) {
    PoolThread& self = threads[static_cast<size_t>(worker)];
    self.begin();
    for (uint64_t seen = 0;;) {
      const auto is_new = [&] { return job.load(std::memory_order_acquire) != seen || stop.load(); };
      for (int i = 0; i < spin_rounds && !is_new(); ++i) pause();
      if (!is_new()) {
        std::unique_lock lock(mutex);
        work_ready.wait(lock, is_new);
      }
      if (stop.load()) return;
      seen = job.load(std::memory_order_acquire);
      if (current_processor() == callers_processor.load(std::memory_order_relaxed))
        self.leave_processor(threads.size());
      work(seen, worker);
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>(std::max(1, threads))) {}

ThreadPool::~ThreadPool() = default;

int64_t ThreadPool::next_task() { return likely_next; }

int ThreadPool::threads() const { return static_cast<int>(state_->threads.size()); }

void ThreadPool::run_tasks(int64_t tasks, TaskRef body) {
  State& s = *state_;
  if (tasks <= 1 || s.workers.empty() || current_worker >= 0) {
    const struct Outer {
      int64_t next = likely_next;
      ~Outer() { likely_next = next; }
    } outer;
    for (int64_t task = 0; task < tasks; ++task) {
      likely_next = task + 1 < tasks ? task + 1 : -1;
      body(task, std::max(0, current_worker));
    }
    return;
  }
  PARABOLA_ASSERT(tasks < int64_t{1} << State::task_bits);
  std::lock_guard one_job(s.one_job);
  const uint64_t job = (s.job.load(std::memory_order_relaxed) + 1) % (uint64_t{1} << (64 - State::task_bits));
  {
    std::lock_guard lock(s.mutex);
    s.error = nullptr;
    s.body.store(&body, std::memory_order_relaxed);
    s.unfinished.store(tasks, std::memory_order_relaxed);
    s.callers_processor.store(current_processor(), std::memory_order_relaxed);
    s.tasks.store(tasks, std::memory_order_relaxed);
    if (tasks >= large_job) s.downwards.store(!s.downwards.load(std::memory_order_relaxed), std::memory_order_relaxed);
    for (size_t share = 0; share < s.shares.size(); ++share) {
      const int64_t size = s.begin_of(tasks, share + 1) - s.begin_of(tasks, share);
      s.shares[share].ticket.store(job << State::task_bits | static_cast<uint64_t>(size), std::memory_order_release);
    }
    s.job.store(job, std::memory_order_release);
  }
  s.work_ready.notify_all();
  s.work(job, 0);
  s.wait_for_workers();
  if (s.error) std::rethrow_exception(s.error);
}

namespace {
std::unique_ptr<ThreadPool>& engine_pool() {
  static std::unique_ptr<ThreadPool> pool =
      std::make_unique<ThreadPool>(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  return pool;
}
}  // namespace

ThreadPool& thread_pool() { return *engine_pool(); }

void set_threads(int threads) {
  if (threads < 1 || threads > 1024) fail<UsageError>("threads", "got ", threads, ", expected 1 to 1024");
  if (thread_pool().threads() != threads) engine_pool() = std::make_unique<ThreadPool>(threads);
}

}  // namespace parabola
