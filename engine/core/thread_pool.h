// One pool of threads for the whole engine. Work comes as numbered tasks with fixed boundaries, more of them than
// threads; a thread begins with a share of neighbouring ones and then helps others with theirs, so a thread that is
// slowed by a neighbour on the machine holds nobody up. Which thread runs a task, and when, has no influence on any
// result.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace parabola {

// A non-owning reference to a callable f(arguments...) that returns nothing: what takes one is compiled once, not once
// for every lambda.
template <class... Arguments>
class FunctionRef {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>) FunctionRef(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(&f))), call_([](void* object, Arguments... arguments) {
          (*static_cast<std::remove_reference_t<F>*>(object))(arguments...);
        }) {}
  void operator()(Arguments... arguments) const { call_(object_, arguments...); }

 private:
  void* object_;
  void (*call_)(void*, Arguments...);
};

using TaskRef = FunctionRef<int64_t, int>;  // f(task, worker)

class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // the calling thread is one of them
  ~ThreadPool();
  int threads() const;

  // Runs body(task, worker) for every task in [0, tasks) and returns when all are done. worker is in [0, threads()) and
  // names a thread's private scratch. The first exception is rethrown. Inside of a task of the engine's pool, runs
  // serially as that task's worker, since the threads are taken.
  template <class F>
  void run(int64_t tasks, F&& body) {
    run_tasks(tasks, TaskRef(body));
  }

  // Inside of a task: the one that this thread goes on with, unless another thread takes it, for those that fetch it
  // ahead; -1 where it is not known.
  static int64_t next_task();

 private:
  void run_tasks(int64_t tasks, TaskRef body);
  struct State;
  std::unique_ptr<State> state_;
};

ThreadPool& thread_pool();      // the engine's pool; all hardware threads unless set_threads was called
void set_threads(int threads);  // UsageError unless between 1 and 1,024; not while work is running

// Splits [0, count) into pieces of `grain` (the last one smaller) and runs body(begin, end) for each. The body is
// called in one place only: it is a loop that takes long to compile.
template <class F>
void parallel_for(int64_t count, int64_t grain, F&& body) {
  thread_pool().run((count + grain - 1) / grain,
                    [&](int64_t task, int) { body(task * grain, std::min(count, (task + 1) * grain)); });
}

}  // namespace parabola
