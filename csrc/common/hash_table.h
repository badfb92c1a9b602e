// SPDX-License-Identifier: Apache-2.0
#pragma once
// Hash table from coordinate keys to rows on the CPU, and what it shares with hash_table.cuh. Open addressing with linear
// probing at a load of 1/2 or less. The full key is stored and compared, so two voxels are never taken for one another.
#include <cstdint>
#include <vector>

#include "common/coord_key.h"

namespace pcperc {

// The finaliser of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
PCPERC_HOST_DEVICE uint64_t hash_key(CoordKey key) {
  key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9ULL;
  key = (key ^ (key >> 27)) * 0x94d049bb133111ebULL;
  return key ^ (key >> 31);
}

inline int64_t table_capacity(int64_t num_keys) {
  int64_t capacity = 16;
  while (capacity < 2 * num_keys) capacity *= 2;
  return capacity;
}

class HashTable {
 public:
  explicit HashTable(int64_t num_keys) : slots_(table_capacity(num_keys), Slot{kEmptyKey, -1}), mask_(slots_.size() - 1) {}

  // False where the key was there already; the table then keeps the row it had.
  bool insert(CoordKey key, int32_t row) {
    uint64_t slot = hash_key(key) & mask_;
    for (; slots_[slot].key != kEmptyKey; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return false;
    }
    slots_[slot] = {key, row};
    return true;
  }

  // The row of a key, or -1. kEmptyKey is in no table.
  int32_t find(CoordKey key) const {
    for (uint64_t slot = hash_key(key) & mask_;; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return slots_[slot].row;
      if (slots_[slot].key == kEmptyKey) return -1;
    }
  }

  // Ask for the cache line of a key some lookups ahead: most lookups miss the cache.
  void prefetch(CoordKey key) const { __builtin_prefetch(&slots_[hash_key(key) & mask_]); }

 private:
  struct Slot {
    CoordKey key;
    int32_t row;
  };
  std::vector<Slot> slots_;
  uint64_t mask_;
};

}  // namespace pcperc
