// Fibres: functions with stacks of their own that hand the processor to each other. One operating-system thread runs
// all of them. AddressSanitizer is told of every switch, so that it checks their stacks as any other.
#pragma once
#include <cstddef>
#include <memory>

namespace parabola::emulated {

class Fibre {
 public:
  // A fibre that starts `body` when it is first switched to; body never returns. Without one: what runs already.
  explicit Fibre(void (*body)() = nullptr);
  ~Fibre();
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  // Leaves the running fibre, which must be this one, and goes on where `next` was left. Returns when someone switches
  // back.
  void switch_to(Fibre& next);

 private:
  static void begin();
  void arrive();
  void (*body_)() = nullptr;
  void* resume_at_[5] = {};  // what __builtin_setjmp keeps: frame, address, stack
  bool started_ = false;
  std::byte* stack_ = nullptr;  // with a page below it that nobody may touch
  const void* stack_bottom_ = nullptr;
  size_t stack_bytes_ = 0;
  void* sanitizer_stack_ = nullptr;
};

}  // namespace parabola::emulated
