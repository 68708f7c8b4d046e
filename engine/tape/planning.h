// Plans run the executor with kernels that are not called.
#pragma once
#include "engine/core/memory.h"
#include "engine/tape/executor.h"

namespace parabola {

// What a plan is asked for besides its figures.
struct PlanningDetails {
  std::vector<Moment>* moments = nullptr;
  BlockRecord* blocks = nullptr;
  std::vector<UntrackedCall>* calls = nullptr;
};

// No kernel runs while one of these lives, and the work and bytes counted meanwhile are none of the caller's.
class Planning {
 public:
  explicit Planning(Device device, const PlanningDetails& details = {})
      : memory_(Memory::of(device)), work_(executor_.work) {
    executor_.work = {};
    executor_.planning = true;
    executor_.moments = details.moments;
    executor_.calls = details.calls;
    memory_.begin_planning(details.blocks);
  }
  ~Planning() {
    memory_.end_planning();
    executor_.work = work_;
    executor_.planning = false;
    executor_.moments = nullptr;
    executor_.calls = nullptr;
  }
  Planning(const Planning&) = delete;
  Planning& operator=(const Planning&) = delete;
  const WorkCounters& work() const { return executor_.work; }

 private:
  Executor& executor_ = Executor::instance();
  Memory& memory_;
  WorkCounters work_;
};

}  // namespace parabola
