// Threads that run one function together and synchronize at barriers.
#pragma once

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <immintrin.h>

#if defined(__SANITIZE_ADDRESS__)
#define BERT_RED_ZONES
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BERT_RED_ZONES
#endif
#endif
#ifdef BERT_RED_ZONES
#include <sanitizer/asan_interface.h>
#endif

namespace bert {

constexpr size_t kHuge = size_t(2) << 20;

// Allocates aligned memory, in huge pages if the kernel provides them; null if memory runs out.
inline char* pages(size_t bytes) {
  if (bytes > SIZE_MAX / 2) return nullptr;
  size_t whole = (bytes + kHuge - 1) & ~(kHuge - 1);
  char* at = static_cast<char*>(aligned_alloc(kHuge, whole));
  if (at) madvise(at, whole, MADV_HUGEPAGE);
  return at;
}

#ifdef BERT_RED_ZONES
// With AddressSanitizer, an access beyond one block must not reach the next block.
constexpr size_t kRedZone = 64;
inline void fence(char* piece, size_t bytes, size_t whole) {
  __asan_unpoison_memory_region(piece, bytes);
  __asan_poison_memory_region(piece + bytes, whole - bytes);
}
#else
constexpr size_t kRedZone = 0;
inline void fence(char*, size_t, size_t) {}
#endif

// Hands out blocks of memory on 64-byte boundaries; without memory it only adds up their sizes.
class Arena {
 public:
  explicit Arena(char* memory = nullptr) : memory_(memory) {}

  template <class T>
  T* take(long count) {
    size_t at = used_, bytes = count * sizeof(T);
    used_ += ((bytes + 63) & ~size_t(63)) + kRedZone;
    if (!memory_) return nullptr;
    fence(memory_ + at, bytes, used_ - at);
    return reinterpret_cast<T*>(memory_ + at);
  }

  size_t used() const { return used_; }

 private:
  char* memory_;
  size_t used_ = 0;
};

// A word that threads wait on. They spin for a while, since the other threads usually arrive soon, and then sleep, to
// leave the processor to other programs.
class alignas(64) Signal {
 public:
  int32_t read() const { return __atomic_load_n(&word_, __ATOMIC_ACQUIRE); }

  void wait_while(int32_t value) {
    for (int spin = 0; spin < kSpins; spin++) {
      if (read() != value) return;
      _mm_pause();
    }
    __atomic_add_fetch(&sleeping_, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&word_, __ATOMIC_SEQ_CST) == value)
      syscall(SYS_futex, &word_, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
    __atomic_sub_fetch(&sleeping_, 1, __ATOMIC_SEQ_CST);
  }

  void advance() {
    __atomic_add_fetch(&word_, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&sleeping_, __ATOMIC_SEQ_CST))
      syscall(SYS_futex, &word_, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
  }

 private:
  static constexpr int kSpins = 4000;
  int32_t word_ = 0;
  int32_t sleeping_ = 0;
};

class alignas(64) Barrier {
 public:
  void expect(int threads) { threads_ = threads; }

  void meet() {
    if (threads_ == 1) return;
    int32_t now = phase_.read();
    if (__atomic_add_fetch(&arrived_, 1, __ATOMIC_ACQ_REL) == threads_) {
      __atomic_store_n(&arrived_, 0, __ATOMIC_RELAXED);
      phase_.advance();
    } else {
      phase_.wait_while(now);
    }
  }

 private:
  Signal phase_;
  int threads_ = 1;
  int32_t arrived_ = 0;
};

// The caller of `run` is thread 0.
class Team {
 public:
  using Function = void (*)(void*, int thread);

  // Returns false if a thread cannot be started; `stop` then stops the started ones.
  bool start(int threads, Function function, void* argument) {
    function_ = function;
    argument_ = argument;
    if (threads == 1) return true;
    workers_ = static_cast<Worker*>(calloc(threads - 1, sizeof(Worker)));
    if (!workers_) return false;
    // Python's threads handle the signals.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; started_ < threads - 1; started_++) {
      workers_[started_] = Worker{this, started_ + 1, pthread_t()};
      if (pthread_create(&workers_[started_].id, nullptr, work, &workers_[started_])) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return started_ == threads - 1;
  }

  // The function must end with a barrier of all threads.
  void run() {
    if (started_) turn_.advance();
    function_(argument_, 0);
  }

  void stop() {
    ending_ = true;
    turn_.advance();
    for (int i = 0; i < started_; i++) pthread_join(workers_[i].id, nullptr);
    free(workers_);
  }

 private:
  struct Worker {
    Team* team;
    int thread;
    pthread_t id;
  };

  static void* work(void* given) {
    Worker* worker = static_cast<Worker*>(given);
    Team* team = worker->team;
    for (int32_t seen = 0;; seen++) {
      team->turn_.wait_while(seen);
      if (team->ending_) return nullptr;
      team->function_(team->argument_, worker->thread);
    }
  }

  Signal turn_;
  Function function_;
  void* argument_;
  Worker* workers_;
  int started_;
  bool ending_;
};

}  // namespace bert
