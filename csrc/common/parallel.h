// SPDX-License-Identifier: Apache-2.0
#pragma once
// Loops over torch's CPU threads. A function given to them must not throw: an exception does not cross the C interface of
// the stable ABI with its message. Note the error, and throw behind the loop.
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace pcperc {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Call f(begin, end) on pieces of [0, count) of at least `grain` rows. The pieces depend on the number of threads, so each
// row must be computed independently of the others.
template <class F>
void parallel_rows(int64_t count, int64_t grain, const F& f) {
  if (count > 0) torch::stable::parallel_for(0, count, std::max<int64_t>(grain, 1), f);
}

// Call f(block, begin, end) for the blocks of `block_size` rows that [0, count) is cut into. The blocks are the same for
// every number of threads: reductions inside a block are reproducible.
template <class F>
void parallel_blocks(int64_t count, int64_t block_size, const F& f) {
  const int64_t num_blocks = ceil_div(count, block_size);
  parallel_rows(num_blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      f(block, block * block_size, std::min(count, (block + 1) * block_size));
    }
  });
}

// Call f(block) for every block < count, each on the first thread that is free: for blocks of unequal work whose results do not
// depend on the thread nor on the order.
template <class F>
void parallel_queue(int64_t count, const F& f) {
  std::atomic<int64_t> next{0};
  parallel_rows(std::min<int64_t>(count, torch::stable::get_num_threads()), 1, [&](int64_t, int64_t) {
    for (int64_t block; (block = next.fetch_add(1, std::memory_order_relaxed)) < count;) f(block);
  });
}

// Lower `target` to `value`: keeps the smallest offending row, whichever thread finds it first.
inline void atomic_min(std::atomic<int64_t>& target, int64_t value) {
  int64_t seen = target.load(std::memory_order_relaxed);
  while (value < seen && !target.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

}  // namespace pcperc
