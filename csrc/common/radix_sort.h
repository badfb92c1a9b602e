// SPDX-License-Identifier: Apache-2.0
#pragma once
// Stable parallel sort of 64-bit keys on the CPU, alone or with an int32 payload, and the runs of equal keys in the result.
// What comes out does not depend on the number of threads.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "common/buffer.h"
#include "common/parallel.h"

namespace pcperc {

struct KeyRow {
  uint64_t key;
  int32_t row;
};

inline uint64_t sort_key(uint64_t item) { return item; }
inline uint64_t sort_key(const KeyRow& item) { return item.key; }

// Rows that one thread sorts or scans at a time: the blocks are few, since each has counters of its own.
inline int64_t sort_block_size(int64_t count) { return std::max<int64_t>(ceil_div(count, 32), 8192); }

// The bits in which the keys differ.
template <class Item>
uint64_t differing_bits(const Item* items, int64_t count) {
  const int64_t block_size = sort_block_size(count);
  std::vector<uint64_t> bits(ceil_div(count, block_size), 0);
  parallel_blocks(count, block_size, [&](int64_t block, int64_t begin, int64_t end) {
    uint64_t found = 0;
    for (int64_t i = begin; i < end; ++i) found |= sort_key(items[i]) ^ sort_key(items[0]);
    bits[block] = found;
  });
  uint64_t all = 0;
  for (uint64_t found : bits) all |= found;
  return all;
}

// Least-significant-digit radix sort by sort_key(item). A digit begins at a bit in which the keys differ: those of one scene
// do in some 30 of their 64 bits, which takes 3 passes.
template <class Item>
void radix_sort(std::unique_ptr<Item[]>& items, int64_t count) {
  constexpr int kDigitBits = 11, kBins = 1 << kDigitBits;
  const int64_t block_size = sort_block_size(count), num_blocks = ceil_div(count, block_size);
  uint64_t unsorted = differing_bits(items.get(), count);
  if (unsorted == 0) return;
  std::unique_ptr<Item[]> buffer = new_buffer<Item>(count);
  std::vector<int64_t> offsets(num_blocks * kBins), bin_starts(kBins);
  while (unsorted != 0) {
    const int shift = __builtin_ctzll(unsorted);
    unsorted &= ~(static_cast<uint64_t>(kBins - 1) << shift);
    const auto digit = [shift](const Item& item) { return (sort_key(item) >> shift) & (kBins - 1); };
    std::fill(offsets.begin(), offsets.end(), 0);
    parallel_blocks(count, block_size, [&](int64_t block, int64_t begin, int64_t end) {
      int64_t* counts = &offsets[block * kBins];
      for (int64_t i = begin; i < end; ++i) ++counts[digit(items[i])];
    });
    // Counts become places: those of a bin lie behind all lower bins, and there behind those of the blocks before.
    std::fill(bin_starts.begin(), bin_starts.end(), 0);
    for (int64_t i = 0; i < num_blocks * kBins; ++i) bin_starts[i % kBins] += offsets[i];
    std::exclusive_scan(bin_starts.begin(), bin_starts.end(), bin_starts.begin(), int64_t{0});
    for (int64_t i = 0; i < num_blocks * kBins; ++i) {
      const int64_t size = std::exchange(offsets[i], bin_starts[i % kBins]);
      bin_starts[i % kBins] += size;
    }
    parallel_blocks(count, block_size, [&](int64_t block, int64_t begin, int64_t end) {
      int64_t* next = &offsets[block * kBins];
      for (int64_t i = begin; i < end; ++i) buffer[next[digit(items[i])]++] = items[i];
    });
    items.swap(buffer);
  }
}

// How many runs of equal keys in sorted items begin before each block of sort_block_size(count) items, and at the end how many
// there are.
template <class Item>
std::vector<int64_t> count_runs(const Item* items, int64_t count) {
  const int64_t block_size = sort_block_size(count);
  std::vector<int64_t> before(ceil_div(count, block_size) + 1, 0);
  parallel_blocks(count, block_size, [&](int64_t block, int64_t begin, int64_t end) {
    int64_t runs = 0;
    for (int64_t i = begin; i < end; ++i) runs += i == 0 || sort_key(items[i]) != sort_key(items[i - 1]);
    before[block] = runs;
  });
  int64_t total = 0;
  for (int64_t& runs : before) total += std::exchange(runs, total);
  return before;
}

// Call visit(i, run, is_first) for every item i of every run.
template <class Item, class Visit>
void visit_runs(const Item* items, int64_t count, const std::vector<int64_t>& runs_before, const Visit& visit) {
  parallel_blocks(count, sort_block_size(count), [&](int64_t block, int64_t begin, int64_t end) {
    int64_t run = runs_before[block] - 1;
    for (int64_t i = begin; i < end; ++i) {
      const bool is_first = i == 0 || sort_key(items[i]) != sort_key(items[i - 1]);
      run += is_first;
      visit(i, run, is_first);
    }
  });
}

}  // namespace pcperc
