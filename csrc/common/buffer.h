// SPDX-License-Identifier: Apache-2.0
#pragma once
// Working memory of the CPU operators.
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdint>
#include <memory>

namespace pcperc {

// Ask for huge pages under memory that is about to be filled: touching it for the first time then takes a fifth of the time,
// and random accesses find their page. Does nothing for less than a few of them.
inline void prefer_huge_pages(void* data, int64_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t kPage = 4096;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / kPage * kPage;
  if (bytes >= (int64_t{8} << 20)) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

// Uninitialised memory for plain values, to be touched first by the threads that fill it.
template <class T>
std::unique_ptr<T[]> new_buffer(int64_t count) {
  std::unique_ptr<T[]> buffer(new T[count]);
  prefer_huge_pages(buffer.get(), count * static_cast<int64_t>(sizeof(T)));
  return buffer;
}

}  // namespace pcperc
