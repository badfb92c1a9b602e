// SPDX-License-Identifier: Apache-2.0
#pragma once
// Stable sort of 64-bit keys on the CPU, alone or with an int32 payload.
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

namespace pcperc {

struct KeyRow {
  uint64_t key;
  int32_t row;
};

inline uint64_t sort_key(uint64_t item) { return item; }
inline uint64_t sort_key(const KeyRow& item) { return item.key; }

// Least-significant-digit radix sort by sort_key(item), 11 bits a pass. Passes over digits that are equal in all items are
// skipped: the keys of one scene differ in some 40 of their 64 bits.
template <class Item>
void radix_sort(std::vector<Item>& items) {
  constexpr int kDigitBits = 11, kPasses = 6, kBins = 1 << kDigitBits;
  std::vector<std::array<size_t, kBins>> counts(kPasses);
  for (auto& bins : counts) bins.fill(0);
  for (const Item& item : items) {
    for (int pass = 0; pass < kPasses; ++pass) ++counts[pass][(sort_key(item) >> (pass * kDigitBits)) & (kBins - 1)];
  }
  std::vector<Item> buffer(items.size());
  for (int pass = 0; pass < kPasses && !items.empty(); ++pass) {
    auto& bins = counts[pass];
    const auto digit = [pass](const Item& item) { return (sort_key(item) >> (pass * kDigitBits)) & (kBins - 1); };
    if (bins[digit(items[0])] == items.size()) continue;
    size_t start = 0;
    for (size_t& bin : bins) start += std::exchange(bin, start);
    for (const Item& item : items) buffer[bins[digit(item)]++] = item;
    items.swap(buffer);
  }
}

}  // namespace pcperc
