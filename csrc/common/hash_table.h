// SPDX-License-Identifier: Apache-2.0
#pragma once
// Hash table from coordinate keys to rows on the CPU. Open addressing with linear probing at a load of 1/2. The full key is
// stored and compared, so two voxels are never taken for one another.
//
// Most taps of most voxels meet nothing. A filter of 8 bits a slot, one for each eighth of it in which the search for some key
// begins, answers 15 of 16 such searches without a jump that is hard to predict and out of an eighteenth of the memory.
//
// The leading bits of a key choose a part of the table, and hashing a place in it: rows that come in the order of their keys,
// or batch item by batch item, stay in a part that fits the cache however large the table is. All threads insert at once;
// which slot a key lands in depends on them, what is found for it does not.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/buffer.h"
#include "common/coord_key.h"
#include "common/parallel.h"

namespace pcperc {

class HashTable {
 public:
  // A table of the rows of `keys` except those of kEmptyKey; of repeated keys it holds one, and says so.
  HashTable(const CoordKey* keys, int64_t count)
      : capacity_(2 * count), slots_(new_buffer<Slot>(capacity_ + 1)), filter_(new_buffer<uint8_t>(capacity_ + 1)) {
    divide_into_parts(keys, count);
    // The last slot stays empty: the search for a key outside all parts begins there.
    parallel_rows(capacity_ + 1, kGrain, [&](int64_t begin, int64_t end) {
      std::fill(&slots_[begin], &slots_[end], Slot{kEmptyKey, -1});
      std::fill(&filter_[begin], &filter_[end], uint8_t{0});
    });
    parallel_rows(count, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        if (row + kAhead < end) prefetch(place(keys[row + kAhead]));
        if (keys[row] != kEmptyKey) insert(keys[row], static_cast<int32_t>(row));
      }
    });
  }

  bool has_duplicates() const { return has_duplicates_; }

  // Where the search for a key begins, in eighths of a slot.
  int64_t place(CoordKey key) const {
    const uint64_t part = (key - first_key_) >> part_shift_;
    if (part >= num_parts_) return 8 * capacity_;
    const uint64_t begin = part_begin_[part], size = part_begin_[part + 1] - begin;
    const unsigned __int128 scaled = static_cast<unsigned __int128>(hash_key(key)) * (8 * size);
    return static_cast<int64_t>(8 * begin + static_cast<uint64_t>(scaled >> 64));
  }

  // False where no key is searched for from this place.
  bool may_hold(int64_t place) const { return filter_[place >> 3] >> (place & 7) & 1; }

  // Ask for the cache line of a place some searches ahead.
  void prefetch(int64_t place) const { __builtin_prefetch(&slots_[place >> 3]); }

  // The row of a key, or -1 as for kEmptyKey, searched for from place(key).
  int32_t find(CoordKey key, int64_t place) const {
    int64_t slot = place >> 3;
    while (slots_[slot].key != key && slots_[slot].key != kEmptyKey) slot = next(slot);
    return slots_[slot].row;
  }

 private:
  struct Slot {
    CoordKey key;
    int32_t row;  // -1 where the slot is empty
  };

  static constexpr int64_t kGrain = 4096, kAhead = 16;

  int64_t next(int64_t slot) const { return slot + 1 < capacity_ ? slot + 1 : 0; }

  // Cut the range of the keys into equal parts, and share the slots out by how many keys each part has.
  void divide_into_parts(const CoordKey* keys, int64_t count) {
    if (count == 0) return;
    const int64_t block_size = std::max(ceil_div(count, 16), kGrain), num_blocks = ceil_div(count, block_size);
    std::vector<CoordKey> lowest(num_blocks, kEmptyKey), highest(num_blocks, 0);
    parallel_blocks(count, block_size, [&](int64_t block, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        if (keys[row] == kEmptyKey) continue;
        lowest[block] = std::min(lowest[block], keys[row]);
        highest[block] = std::max(highest[block], keys[row]);
      }
    });
    first_key_ = *std::min_element(lowest.begin(), lowest.end());
    if (first_key_ == kEmptyKey) return;
    const CoordKey span = *std::max_element(highest.begin(), highest.end()) - first_key_;
    const uint64_t max_parts = std::min<uint64_t>(count / 16 + 2, 4096);
    while (span >> part_shift_ >= max_parts) ++part_shift_;
    num_parts_ = (span >> part_shift_) + 1;

    std::vector<uint32_t> counts(num_blocks * num_parts_, 0);
    parallel_blocks(count, block_size, [&](int64_t block, int64_t begin, int64_t end) {
      uint32_t* parts = &counts[block * num_parts_];
      for (int64_t row = begin; row < end; ++row) {
        if (keys[row] != kEmptyKey) ++parts[(keys[row] - first_key_) >> part_shift_];
      }
    });
    part_begin_.assign(num_parts_ + 1, 0);
    for (uint64_t part = 0; part < num_parts_; ++part) {
      part_begin_[part + 1] = part_begin_[part];
      for (int64_t block = 0; block < num_blocks; ++block) part_begin_[part + 1] += 2 * counts[block * num_parts_ + part];
    }
  }

  void insert(CoordKey key, int32_t row) {
    const int64_t place = this->place(key);
    __atomic_fetch_or(&filter_[place >> 3], static_cast<uint8_t>(1 << (place & 7)), __ATOMIC_RELAXED);
    for (int64_t slot = place >> 3;; slot = next(slot)) {
      CoordKey seen = kEmptyKey;
      if (__atomic_compare_exchange_n(&slots_[slot].key, &seen, key, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        slots_[slot].row = row;
        return;
      }
      if (seen == key) return has_duplicates_.store(true, std::memory_order_relaxed);
    }
  }

  int64_t capacity_;
  std::unique_ptr<Slot[]> slots_;
  std::unique_ptr<uint8_t[]> filter_;
  CoordKey first_key_ = 0;
  uint64_t num_parts_ = 0;
  int part_shift_ = 0;
  std::vector<uint32_t> part_begin_;  // slots
  std::atomic<bool> has_duplicates_{false};
};

}  // namespace pcperc
