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
thread_local int current_worker = -1;           // inside of a task: who runs it

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}
}  // namespace

// A job is done when its tasks are done, not when every worker has looked at it: a worker that the machine has put to
// sleep for a neighbour's sake is not waited for. For that, `ticket` holds the job's number and the tasks left to claim
// in one word. A task is claimed by a compare-and-swap that takes one off, so it can only be claimed from a job that
// still runs.
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
  std::atomic<uint64_t> ticket{0};
  std::atomic<int64_t> unfinished{0};
  std::atomic<const TaskRef*> body{nullptr};
  std::atomic<int> callers_processor{-1};
  std::atomic<bool> stop{false};
  std::exception_ptr error;
  std::vector<PoolThread> threads;    // of the workers; the caller's is never busy
  std::vector<std::jthread> workers;  // last, hence joined first: until then they use all of the above

  explicit State(int count) : threads(static_cast<size_t>(count)) {
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

  // Runs tasks of job `job`, from the last to the first, until none is left to claim.
  void work(uint64_t job, int worker) {
    current_worker = worker;
    PoolThread& self = threads[static_cast<size_t>(worker)];
    uint64_t t = ticket.load(std::memory_order_acquire);
    while (job_of(t) == job && left_in(t) > 0) {
      if (!ticket.compare_exchange_weak(t, t - 1, std::memory_order_acq_rel)) continue;
      self.set_busy(true);
      // Read only now: the job cannot end before the claimed task has, so this body is the claimed task's.
      try {
        (*body.load(std::memory_order_relaxed))(left_in(t) - 1, worker);
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
    current_worker = -1;
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
      const auto is_new = [&] { return job_of(ticket.load(std::memory_order_acquire)) != seen || stop.load(); };
      for (int i = 0; i < spin_rounds && !is_new(); ++i) pause();
      if (!is_new()) {
        std::unique_lock lock(mutex);
        work_ready.wait(lock, is_new);
      }
      if (stop.load()) return;
      seen = job_of(ticket.load(std::memory_order_acquire));
      if (current_processor() == callers_processor.load(std::memory_order_relaxed))
        self.leave_processor(threads.size());
      work(seen, worker);
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>(std::max(1, threads))) {}

ThreadPool::~ThreadPool() = default;

int ThreadPool::threads() const { return static_cast<int>(state_->threads.size()); }

void ThreadPool::run_tasks(int64_t tasks, TaskRef body) {
  State& s = *state_;
  if (tasks <= 1 || s.workers.empty() || current_worker >= 0) {
    for (int64_t task = 0; task < tasks; ++task) body(task, std::max(0, current_worker));
    return;
  }
  PARABOLA_ASSERT(tasks < int64_t{1} << State::task_bits);
  std::lock_guard one_job(s.one_job);
  uint64_t job;
  {
    std::lock_guard lock(s.mutex);
    s.error = nullptr;
    s.body.store(&body, std::memory_order_relaxed);
    s.unfinished.store(tasks, std::memory_order_relaxed);
    s.callers_processor.store(current_processor(), std::memory_order_relaxed);
    job = (State::job_of(s.ticket.load(std::memory_order_relaxed)) + 1) % (uint64_t{1} << (64 - State::task_bits));
    s.ticket.store(job << State::task_bits | static_cast<uint64_t>(tasks), std::memory_order_release);
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
