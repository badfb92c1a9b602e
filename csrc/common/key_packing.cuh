// SPDX-License-Identifier: Apache-2.0
#pragma once
// Coordinate keys in as few bits as tell some of them apart, for sorting on a GPU.
#include <cstdint>

#include "common/coord_key.h"

namespace pcperc {

constexpr int kKeyFields = 1 + kMaxDims;  // batch index and axes

// The lowest value of each field of some keys and of its complement, so that the highest one is a lowest one too.
struct KeyExtent {
  uint32_t lowest[2 * kKeyFields];  // all ones for no key

  __device__ static uint32_t field(KeyLayout layout, CoordKey key, int index) {
    const int shift = (layout.axes - index) * layout.axis_bits;  // field 0 is the batch index
    return shift < 0 ? 0 : static_cast<uint32_t>(key >> shift) & (index == 0 ? ~0u : (1u << layout.axis_bits) - 1);
  }

  __device__ void include(int index, uint32_t value) {
    if (value < lowest[index]) lowest[index] = value;
    if (~value < lowest[kKeyFields + index]) lowest[kKeyFields + index] = ~value;
  }
  __device__ void include(KeyLayout layout, CoordKey key) {
#pragma unroll
    for (int index = 0; index < kKeyFields; ++index) include(index, field(layout, key, index));
  }

  __device__ static KeyExtent of_nothing() {
    KeyExtent extent;
#pragma unroll
    for (int i = 0; i < 2 * kKeyFields; ++i) extent.lowest[i] = ~0u;
    return extent;
  }
};

// Keys in few bits, in the same order: each field without its lowest value and the high bits that no key uses.
struct KeyPacking {
  KeyLayout layout;
  uint32_t low[kKeyFields];
  int32_t bits[kKeyFields], num_bits;

  // At most 64 bits for the extent of keys; without a key anything.
  __device__ KeyPacking(KeyLayout key_layout, const KeyExtent& extent) : layout(key_layout), num_bits(0) {
#pragma unroll
    for (int index = 0; index < kKeyFields; ++index) {
      low[index] = extent.lowest[index];
      bits[index] = 32 - __clz(static_cast<int>(~extent.lowest[kKeyFields + index] - low[index]));
      num_bits += bits[index];
    }
  }

  __device__ bool is_narrow() const { return num_bits <= 32; }

  __device__ uint64_t pack(CoordKey key) const {
    uint64_t packed = 0;
#pragma unroll
    for (int index = 0; index < kKeyFields; ++index) {
      packed = packed << bits[index] | (KeyExtent::field(layout, key, index) - low[index]);
    }
    return packed;
  }

  __device__ CoordKey unpack(uint64_t packed) const {
    CoordKey key = 0;
#pragma unroll
    for (int index = kKeyFields - 1; index >= 0; --index) {
      const uint64_t value = (packed & ((uint64_t{1} << bits[index]) - 1)) + low[index];
      if (index <= layout.axes) key |= value << ((layout.axes - index) * layout.axis_bits);
      packed >>= bits[index];
    }
    return key;
  }
};

}  // namespace pcperc
