// SPDX-License-Identifier: Apache-2.0
#pragma once
// Registers in the compiler's own vector types, and memory that they are read from. A kernel is an always-inlined template
// over the bytes of a register; a wrapper compiled for each instruction set (cpu/capability.h) inlines it. Weights and sums
// are laid out in vectors of 64 bytes for all of them: one register of AVX-512, two of AVX, four of 16 bytes.
#include <cstdint>
#include <cstdlib>
#include <new>

#define PCPERC_INLINE inline __attribute__((always_inline))
// In front of the loops over a tile: only what is unrolled is kept in registers.
#if defined(__clang__)
#define PCPERC_UNROLL _Pragma("unroll")
#else
#define PCPERC_UNROLL _Pragma("GCC unroll 16")
#endif

namespace pcperc {

constexpr int kVectorBytes = 64;

// Numbers of type A in a vector.
template <class A>
constexpr int64_t kLanes = kVectorBytes / sizeof(A);

// As little alignment as features have.
template <class A, int kBytes>
struct RegisterOf {
  typedef A type __attribute__((vector_size(kBytes), aligned(alignof(A)), may_alias));
};
template <class A, int kBytes>
using Register = typename RegisterOf<A, kBytes>::type;

template <int kBytes, class A>
PCPERC_INLINE const Register<A, kBytes>& register_at(const A* from) {
  return *reinterpret_cast<const Register<A, kBytes>*>(from);
}

template <int kBytes, class A>
PCPERC_INLINE Register<A, kBytes>& register_at(A* from) {
  return *reinterpret_cast<Register<A, kBytes>*>(from);
}

// Memory that starts on a cache line, so that no vector in it lies across two. Its values are not initialised.
template <class A>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count) { require(count); }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // Room for `count` values; what was there is lost where it has to grow.
  A* require(int64_t count) {
    if (count > count_) {
      std::free(data_);
      data_ = static_cast<A*>(std::aligned_alloc(64, (count * sizeof(A) + 63) / 64 * 64));
      count_ = data_ ? count : 0;
      if (!data_) throw std::bad_alloc();
    }
    return data_;
  }
  A* data() { return data_; }
  const A* data() const { return data_; }

 private:
  A* data_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace pcperc
