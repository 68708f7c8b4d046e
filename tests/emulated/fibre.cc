#include "tests/emulated/fibre.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstring>

#include "engine/core/error.h"

// AddressSanitizer's own; null in a build without it.
extern "C" {
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t size);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* saved, const void** bottom, size_t* size);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void* address, size_t size);
}

namespace parabola::emulated {
namespace {

constexpr size_t page = 4096, stack_size = 64 << 10;  // sanitized frames are several times as large as others
Fibre *arriving = nullptr, *leaving = nullptr;

// Not instrumented: for the sanitizer the stack changes in between. In two functions, since the compiler takes a jump
// within one for an ordinary loop. (GCC's own pair saves three registers; setjmp of the C library a few more and the
// signal mask, by a system call, if it is asked by ucontext.)
[[gnu::noinline, gnu::no_sanitize_address]] void jump(void** to) { __builtin_longjmp(to, 1); }
[[gnu::noinline, gnu::no_sanitize_address]] void swap(void** save, void** to) {
  if (__builtin_setjmp(save) == 0) jump(to);
}
[[gnu::noinline, gnu::no_sanitize_address]] void swap_to_new(void** save, const ucontext_t* to) {
  if (__builtin_setjmp(save) == 0) setcontext(to);
}

}  // namespace

Fibre::Fibre(void (*body)()) : body_(body), started_(body == nullptr) {
  if (!body) return;
  void* mapped = mmap(nullptr, page + stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) fail<Error>("emulated grid", "no memory for the stack of another thread");
  stack_ = static_cast<std::byte*>(mapped);
  mprotect(stack_, page, PROT_NONE);
  stack_bottom_ = stack_ + page;
  stack_bytes_ = stack_size;
}

Fibre::~Fibre() {
  if (!stack_) return;
  // One that was left for good has marks of its frames in the sanitizer's shadow.
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(stack_, page + stack_size);
  munmap(stack_, page + stack_size);
}

void Fibre::switch_to(Fibre& next) {
  leaving = this;
  arriving = &next;
  if (__sanitizer_start_switch_fiber)
    __sanitizer_start_switch_fiber(&sanitizer_stack_, next.stack_bottom_, next.stack_bytes_);
  if (next.started_) {
    swap(resume_at_, next.resume_at_);
  } else {
    next.started_ = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = next.stack_ + page;
    context.uc_stack.ss_size = stack_size;
    context.uc_link = nullptr;
    makecontext(&context, &Fibre::begin, 0);
    swap_to_new(resume_at_, &context);
  }
  arrive();
}

void Fibre::begin() {
  Fibre& self = *arriving;
  self.arrive();
  self.body_();
}

// Tells the sanitizer where the switch has led; from it we learn what stack the first fibre, which we did not make,
// has.
void Fibre::arrive() {
  if (!__sanitizer_finish_switch_fiber) return;
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(sanitizer_stack_, &bottom, &size);
  if (!leaving->stack_) leaving->stack_bottom_ = bottom, leaving->stack_bytes_ = size;
}

}  // namespace parabola::emulated
