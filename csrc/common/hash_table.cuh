// SPDX-License-Identifier: Apache-2.0
#pragma once
// Hash table from coordinate keys to rows on the GPU: built by one kernel, read by later ones. Open addressing with linear
// probing at a load of 1/2 or less. The full key is stored and compared, so two voxels are never taken for one another. Which
// slot a key lands in depends on the order of the threads, what is found for it does not.
#include "common/coord_key.h"
#include "common/launch.cuh"

namespace pcperc {

constexpr int32_t kNoRow = 0x7f7f7f7f;  // above every row, and what a memset with 0x7f gives

struct DeviceHashTable {
  CoordKey* keys;
  int32_t* rows;
  uint64_t mask;

  // Add a row and return the smallest row that had the key before, or kNoRow. The table keeps the smallest.
  __device__ int32_t insert(CoordKey key, int32_t row) {
    for (uint64_t slot = hash_key(key) & mask;; slot = (slot + 1) & mask) {
      const CoordKey seen = atomicCAS(reinterpret_cast<unsigned long long*>(keys + slot),
                                      static_cast<unsigned long long>(kEmptyKey), static_cast<unsigned long long>(key));
      if (seen == kEmptyKey || seen == key) return atomicMin(rows + slot, row);
    }
  }

  // The row of a key that is not kEmptyKey, or -1.
  __device__ int32_t find(CoordKey key) const {
    for (uint64_t slot = hash_key(key) & mask;; slot = (slot + 1) & mask) {
      const CoordKey seen = keys[slot];
      if (seen == key) return rows[slot];
      if (seen == kEmptyKey) return -1;
    }
  }
};

// An empty table for `num_keys` keys and the memory under it.
struct DeviceHashStorage {
  Tensor keys, rows;
  DeviceHashTable table;

  DeviceHashStorage(const Tensor& like, int64_t num_keys, cudaStream_t stream) {
    int64_t capacity = 16;
    while (capacity < 2 * num_keys) capacity *= 2;
    keys = empty_on(like, {capacity}, ScalarType::Long);
    rows = empty_on(like, {capacity}, ScalarType::Int);
    table = {static_cast<CoordKey*>(keys.data_ptr()), static_cast<int32_t*>(rows.data_ptr()),
             static_cast<uint64_t>(capacity - 1)};
    PCPERC_CUDA_CHECK(cudaMemsetAsync(table.keys, 0xff, capacity * sizeof(CoordKey), stream));
    PCPERC_CUDA_CHECK(cudaMemsetAsync(table.rows, 0x7f, capacity * sizeof(int32_t), stream));
  }
};

}  // namespace pcperc
