#include "engine/core/thread_pool.h"

#include <doctest/doctest.h>

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "engine/core/error.h"

namespace parabola::thread_pool_test {

namespace {

// How often each task of [0, tasks) ran. Only counted under its own index, so the counts need no atomics.
std::vector<int> runs(ThreadPool& pool, int64_t tasks) {
  std::vector<int> counts(static_cast<size_t>(tasks));
  pool.run(tasks, [&](int64_t task, int) { ++counts[static_cast<size_t>(task)]; });
  return counts;
}

}  // namespace

TEST_CASE("thread pool: every task runs exactly once, whatever the number of threads and tasks") {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (int64_t tasks : {0, 1, 2, 3, 7, 8, 9, 1000})
      CHECK(runs(pool, tasks) == std::vector<int>(static_cast<size_t>(tasks), 1));
  }
}

TEST_CASE("thread pool: many small jobs, each complete when run() returns") {
  ThreadPool pool(4);
  std::vector<int> counts(5);
  constexpr int jobs = 20000;
  for (int job = 0; job < jobs; ++job) {
    // Another body on the stack each time: one that ran late would be caught by the counts, or by a sanitizer.
    const int64_t offset = job % 3;
    pool.run(5 - offset, [&, offset](int64_t task, int) { ++counts[static_cast<size_t>(task + offset)]; });
  }
  CHECK(counts[4] == jobs);
  CHECK(counts[1] == jobs - jobs / 3);  // offset 2 leaves it out
  CHECK(counts[0] == (jobs + 2) / 3);   // only offset 0 counts it
}

TEST_CASE("thread pool: what tasks wrote is there when run() returns, and the next job sees it") {
  ThreadPool pool(3);
  std::vector<int64_t> values(100, 0);
  for (int job = 0; job < 500; ++job)
    pool.run(100, [&](int64_t task, int) { values[static_cast<size_t>(task)] += task; });
  for (int64_t task = 0; task < 100; ++task) CHECK(values[static_cast<size_t>(task)] == 500 * task);
}

TEST_CASE("thread pool: a thread begins with its share, up and down in turn, and then helps one that is stuck") {
  constexpr int64_t tasks = 40, half = tasks / 2;
  ThreadPool pool(2);
  std::vector<int64_t> shares[2];
  for (std::vector<int64_t>& share : shares) {
    std::atomic<int64_t> done = 0;
    std::vector<int64_t> callers, others, told;
    pool.run(tasks, [&](int64_t task, int worker) {
      (worker == 0 ? callers : others).push_back(task);
      if (worker == 0) told.push_back(ThreadPool::next_task());
      while (worker == 1 && done < tasks - 1) std::this_thread::yield();
      ++done;
    });
    REQUIRE(others.size() <= 1);  // none where the caller is through before the other thread has woken
    for (const int64_t task : others) CHECK(task >= half);
    REQUIRE(callers.size() + others.size() == tasks);
    share.assign(callers.begin(), callers.begin() + half);
    for (size_t i = 0; i < half; ++i) CHECK(told[i] == (i + 1 < half ? share[i + 1] : -1));
  }
  std::reverse(shares[1].begin(), shares[1].end());
  CHECK(shares[0] == shares[1]);
  std::sort(shares[0].begin(), shares[0].end());
  for (int64_t task = 0; task < half; ++task) CHECK(shares[0][static_cast<size_t>(task)] == task);
}

TEST_CASE("thread pool: a task knows which one comes next, within other tasks too") {
  ThreadPool pool(1);
  std::vector<int64_t> told;
  pool.run(2, [&](int64_t, int) {
    pool.run(3, [&](int64_t, int) { told.push_back(ThreadPool::next_task()); });
    CHECK_THROWS_AS(pool.run(2, [](int64_t, int) { throw std::runtime_error("no"); }), std::runtime_error);
    told.push_back(ThreadPool::next_task());
  });
  CHECK(told == std::vector<int64_t>{1, 2, -1, 1, 1, 2, -1, -1});
}

TEST_CASE("thread pool: a worker's number is its own at any time") {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> users(4);
  std::atomic<int> clashes{0}, strange{0};
  pool.run(2000, [&](int64_t, int worker) {
    if (worker < 0 || worker >= 4) {
      ++strange;
      return;
    }
    if (users[static_cast<size_t>(worker)].fetch_add(1) != 0) ++clashes;
    users[static_cast<size_t>(worker)].fetch_sub(1);
  });
  CHECK(clashes == 0);
  CHECK(strange == 0);
}

TEST_CASE("thread pool: a run inside of a task is serial, in order, and keeps the worker's number") {
  ThreadPool pool(4);
  std::atomic<int> inner_tasks{0}, wrong{0};
  pool.run(50, [&](int64_t, int worker) {
    const std::thread::id thread = std::this_thread::get_id();
    int64_t next = 0;
    pool.run(20, [&](int64_t task, int inner_worker) {
      if (std::this_thread::get_id() != thread || task != next++ || inner_worker != worker) ++wrong;
      ++inner_tasks;
    });
  });
  CHECK(inner_tasks == 1000);
  CHECK(wrong == 0);
}

TEST_CASE("thread pool: the first exception comes back, and the pool goes on") {
  for (int threads : {1, 4}) {
    ThreadPool pool(threads);
    for (int i = 0; i < 200; ++i) {
      CHECK_THROWS_WITH_AS(pool.run(100,
                                    [&](int64_t task, int) {
                                      if (task == 37) throw std::runtime_error("task 37");
                                    }),
                           "task 37", std::runtime_error);
    }
    CHECK_THROWS_AS(pool.run(100, [](int64_t, int) { throw std::runtime_error("all"); }), std::runtime_error);
    CHECK_THROWS_AS(pool.run(1, [](int64_t, int) { throw std::runtime_error("one"); }), std::runtime_error);
    CHECK(runs(pool, 100) == std::vector<int>(100, 1));
  }
}

TEST_CASE("thread pool: an exception of a run inside of a task comes back through both") {
  ThreadPool pool(3);
  const auto inner = [&](int64_t outer_task, int) {
    pool.run(10, [&](int64_t task, int) {
      if (outer_task == 5 && task == 3) throw std::runtime_error("inner");
    });
  };
  CHECK_THROWS_WITH_AS(pool.run(20, inner), "inner", std::runtime_error);
  CHECK(runs(pool, 50) == std::vector<int>(50, 1));
}

TEST_CASE("thread pool: two threads may ask it for work at the same time") {
  ThreadPool pool(3);
  std::vector<int> left(300), right(300);
  const auto use = [&](std::vector<int>& counts) {
    for (int job = 0; job < 200; ++job)
      pool.run(static_cast<int64_t>(counts.size()), [&](int64_t task, int) { ++counts[static_cast<size_t>(task)]; });
  };
  {
    const std::jthread other([&] { use(right); });
    use(left);
  }
  CHECK(left == std::vector<int>(300, 200));
  CHECK(right == std::vector<int>(300, 200));
}

TEST_CASE("thread pool: pools come and go, used or not, right after work too") {
  for (int i = 0; i < 200; ++i) {
    ThreadPool unused(4), used(4);
    CHECK(runs(used, 8) == std::vector<int>(8, 1));
  }
}

TEST_CASE("parallel_for: pieces cover the range once and have fixed boundaries") {
  for (int threads : {1, 3}) {
    set_threads(threads);
    for (int64_t count : {0, 1, 9, 10, 11, 100, 101}) {
      std::vector<int> seen(static_cast<size_t>(count));
      std::atomic<int> pieces{0}, odd{0};
      parallel_for(count, 10, [&](int64_t begin, int64_t end) {
        ++pieces;
        if (begin % 10 != 0 || end != std::min(count, begin + 10)) ++odd;
        for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
      });
      CHECK(seen == std::vector<int>(static_cast<size_t>(count), 1));
      CHECK(pieces == (count + 9) / 10);
      CHECK(odd == 0);
    }
  }
  set_threads(1);
}

TEST_CASE("set_threads: between 1 and 1,024") {
  for (int threads : {5, 2, 2, 1}) {
    set_threads(threads);
    CHECK(thread_pool().threads() == threads);
  }
  CHECK_THROWS_WITH_AS(set_threads(0), "[threads] got 0, expected 1 to 1024", UsageError);
  CHECK_THROWS_AS(set_threads(-3), UsageError);
  CHECK_THROWS_AS(set_threads(1025), UsageError);
  CHECK(thread_pool().threads() == 1);
}

#ifdef __linux__
TEST_CASE("thread pool: beside busy neighbours all tasks run, and threads keep the processors that they may use") {
  cpu_set_t allowed;
  REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  std::atomic<bool> over{false};
  std::vector<std::jthread> neighbours;
  for (int i = 0; i < CPU_COUNT(&allowed); ++i)
    neighbours.emplace_back([&] {
      while (!over.load(std::memory_order_relaxed)) continue;
    });
  ThreadPool pool(2);
  std::atomic<int64_t> work{0};
  for (int job = 0; job < 300; ++job)
    pool.run(4, [&](int64_t, int) {
      for (int i = 0; i < 20000; ++i) work.fetch_add(1, std::memory_order_relaxed);
    });
  over.store(true);
  CHECK(work == int64_t{300} * 4 * 20000);
  // One that is on loan to the caller's processor for a task comes back after it.
  std::atomic<bool> on_loan{true};
  for (int job = 0; job < 1000 && on_loan; ++job) {
    on_loan = false;
    pool.run(4, [&](int64_t, int) {
      cpu_set_t mine;
      if (sched_getaffinity(0, sizeof mine, &mine) != 0 || !CPU_EQUAL(&mine, &allowed)) on_loan = true;
    });
  }
  CHECK_FALSE(on_loan);
}
#endif

}  // namespace parabola::thread_pool_test
