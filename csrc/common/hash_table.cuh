// SPDX-License-Identifier: Apache-2.0
#pragma once
// Hash tables of coordinate keys on the GPU: built by one kernel, read by later ones. Open addressing with linear probing at a
// load of 1/2 or less. The full key is stored and compared, so two voxels are never taken for one another. Which slot a key
// lands in depends on the order of the threads, what is found for it does not.
#include "common/coord_key.h"
#include "common/launch.cuh"

namespace pcperc {

// A set of keys, each with a slot of its own. All slots hold kEmptyKey before: what a memset with 0xff gives.
struct DeviceKeySet {
  CoordKey* keys;
  uint32_t capacity;

  // Slots for `num_keys` keys.
  static int64_t capacity_for(int64_t num_keys) { return std::max<int64_t>(2 * num_keys, 16); }

  __device__ uint32_t home(CoordKey key) const { return __umulhi(static_cast<uint32_t>(hash_key(key) >> 32), capacity); }
  __device__ uint32_t next(uint32_t slot) const { return slot + 1 < capacity ? slot + 1 : 0; }

  // The slot of a key, which is added where the set lacks it.
  __device__ uint32_t insert(CoordKey key) const {
    for (uint32_t slot = home(key);; slot = next(slot)) {
      // A slot that is taken stays so: only an empty one is worth an atomic operation.
      CoordKey seen = *static_cast<volatile CoordKey*>(keys + slot);
      if (seen == kEmptyKey) {
        seen = atomicCAS(reinterpret_cast<unsigned long long*>(keys + slot), static_cast<unsigned long long>(kEmptyKey),
                         static_cast<unsigned long long>(key));
      }
      if (seen == key || seen == kEmptyKey) return slot;
    }
  }

  // The slot of a key, or -1, where `seen` is the key in `slot`, its home: several searches can begin before the first goes on.
  __device__ int64_t find(CoordKey key, uint32_t slot, CoordKey seen) const {
    while (seen != key && seen != kEmptyKey) {
      slot = next(slot);
      seen = __ldg(keys + slot);
    }
    return seen == key ? static_cast<int64_t>(slot) : -1;
  }
};

// The rows of voxels, found by blocks of 2 x 2 x 2 of them (along the last three axes of a key): a slot of the set for each
// block that is not empty, and 8 rows, 32 bytes, for each slot. The 27 taps of a 3 x 3 x 3 kernel lie in 8 blocks, and those of
// a 2 x 2 x 2 kernel of stride 2 in one.
struct DeviceVoxelBlocks {
  DeviceKeySet blocks;
  int32_t* rows;  // (capacity, 8), -1 where there is no voxel

  // The lowest bit of each of the three axes, as one number and in place.
  __device__ static uint32_t cell(KeyLayout layout, CoordKey key) {
    return static_cast<uint32_t>((key >> (2 * layout.axis_bits) & 1) << 2 | (key >> layout.axis_bits & 1) << 1 | (key & 1));
  }
  __device__ static CoordKey block_of(KeyLayout layout, CoordKey key) {
    return key & ~(CoordKey{1} << (2 * layout.axis_bits) | CoordKey{1} << layout.axis_bits | CoordKey{1});
  }

  __device__ int32_t* row_of(KeyLayout layout, CoordKey key) const {
    return rows + static_cast<int64_t>(blocks.insert(block_of(layout, key))) * 8 + cell(layout, key);
  }
};

}  // namespace pcperc
