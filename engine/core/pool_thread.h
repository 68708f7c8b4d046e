// Threads of a pool as the machine's scheduler treats them: whether one gets its share, and moving it to another
// processor. Linux; elsewhere nothing is known and nothing moves.
#pragma once
#include <atomic>
#include <cstdint>

#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>
#endif

namespace parabola {

#ifdef __linux__

inline int current_processor() { return sched_getcpu(); }

class PoolThread {
 public:
  // By the thread itself: before all else; at the beginning and the end of a task.
  void begin() {
    pthread_getcpuclockid(pthread_self(), &clock_);
    sched_getaffinity(0, sizeof allowed_, &allowed_);  // now: later the mask may be one of those set below
    thread_.store(gettid(), std::memory_order_release);
  }
  void set_busy(bool busy) { busy_.store(busy, std::memory_order_relaxed); }

  // By a thread that waits for it: is it within a task, and has it used no time of a processor since watch()?
  void watch() { used_ = used(); }
  bool has_stalled() const { return used_ >= 0 && used() == used_; }

  // By the same: the thread goes on where this one runs, until return_brought(), which it calls after a task.
  void bring_here() {
    const pid_t thread = thread_.load(std::memory_order_acquire);
    // Without its own mask (more processors than a cpu_set_t names) it could not be let go again.
    if (brought_.load() || thread == 0 || CPU_COUNT(&allowed_) == 0) return;
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(static_cast<size_t>(sched_getcpu()), &here);
    if (sched_setaffinity(thread, sizeof here, &here) == 0) brought_.store(true);
  }
  void return_brought() {
    if (brought_.load(std::memory_order_acquire)) leave_processor();
  }

  // This thread leaves the processor that it runs on, if a pool of `threads` can have one for each.
  void leave_processor(size_t threads) {
    if (static_cast<size_t>(CPU_COUNT(&allowed_)) >= threads) leave_processor();
  }

 private:
  int64_t used() const {  // nanoseconds of a processor's time; -1: not within a task
    timespec time{};
    if (!busy_.load(std::memory_order_relaxed) || thread_.load(std::memory_order_acquire) == 0) return -1;
    clock_gettime(clock_, &time);
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  }
  void leave_processor() {
    brought_.store(false);
    cpu_set_t others = allowed_;
    CPU_CLR(static_cast<size_t>(sched_getcpu()), &others);
    if (CPU_COUNT(&others) > 0) sched_setaffinity(0, sizeof others, &others);
    sched_setaffinity(0, sizeof allowed_, &allowed_);
  }

  std::atomic<bool> busy_{false}, brought_{false};
  std::atomic<pid_t> thread_{0};
  clockid_t clock_{};
  int64_t used_ = -1;
  cpu_set_t allowed_{};
};

#else

inline int current_processor() { return -1; }

class PoolThread {
 public:
  void begin() {}
  void set_busy(bool) {}
  void watch() {}
  bool has_stalled() const { return false; }
  void bring_here() {}
  void return_brought() {}
  void leave_processor(size_t) {}
};

#endif

}  // namespace parabola
