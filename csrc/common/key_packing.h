// SPDX-License-Identifier: Apache-2.0
#pragma once
// Coordinate keys in as few bits as tell some of them apart, for sorting: on host and device.
#include <algorithm>
#include <cstdint>

#include "common/conv_geometry.h"
#include "common/coord_key.h"

namespace pcperc {

constexpr int kKeyFields = 1 + kMaxDims;  // batch index and axes

// The lowest value of each field of some keys and of its complement, so that the highest one is a lowest one too.
struct KeyExtent {
  uint32_t lowest[2 * kKeyFields];  // all ones for no key

  PCPERC_HOST_DEVICE static uint32_t field(KeyLayout layout, CoordKey key, int index) {
    const int shift = (layout.axes - index) * layout.axis_bits;  // field 0 is the batch index
    return shift < 0 ? 0 : static_cast<uint32_t>(key >> shift) & (index == 0 ? ~0u : (1u << layout.axis_bits) - 1);
  }

  PCPERC_HOST_DEVICE void include(int index, uint32_t value) {
    if (value < lowest[index]) lowest[index] = value;
    if (~value < lowest[kKeyFields + index]) lowest[kKeyFields + index] = ~value;
  }
  PCPERC_HOST_DEVICE void include(KeyLayout layout, CoordKey key) {
    PCPERC_DEVICE_UNROLL
    for (int index = 0; index < kKeyFields; ++index) include(index, field(layout, key, index));
  }

  PCPERC_HOST_DEVICE static KeyExtent of_nothing() {
    KeyExtent extent;
    PCPERC_DEVICE_UNROLL
    for (int i = 0; i < 2 * kKeyFields; ++i) extent.lowest[i] = ~0u;
    return extent;
  }

  // Of all keys within bounds.
  static KeyExtent of_bounds(KeyLayout layout, const LatticeBounds& bounds) {
    KeyExtent extent = of_nothing();
    extent.include(0, 0);
    extent.include(0, layout.max_batch());
    for (int axis = 0; axis < kMaxDims; ++axis) {
      for (const int64_t end : {bounds.low, bounds.high[axis] - 1}) {
        const int64_t coord = axis < layout.dims ? std::clamp<int64_t>(end, layout.min_coord(), layout.max_coord()) : 0;
        extent.include(1 + axis, axis < layout.axes ? static_cast<uint32_t>(coord - layout.min_coord()) : 0);
      }
    }
    return extent;
  }
};

// Keys in few bits, in the same order: each field without its lowest value and the high bits that no key uses.
struct KeyPacking {
  KeyLayout layout;
  uint32_t low[kKeyFields];
  int32_t bits[kKeyFields], num_bits;

  PCPERC_HOST_DEVICE KeyPacking(KeyLayout key_layout, const KeyExtent& extent) : layout(key_layout), num_bits(0) {
    PCPERC_DEVICE_UNROLL
    for (int index = 0; index < kKeyFields; ++index) {
      low[index] = extent.lowest[index];
      bits[index] = 0;
      while (bits[index] < 32 && (~extent.lowest[kKeyFields + index] - low[index]) >> bits[index] != 0) ++bits[index];
      num_bits += bits[index];
    }
  }

  PCPERC_HOST_DEVICE bool is_narrow() const { return num_bits <= 32; }

  PCPERC_HOST_DEVICE uint64_t pack(CoordKey key) const {
    uint64_t packed = 0;
    PCPERC_DEVICE_UNROLL
    for (int index = 0; index < kKeyFields; ++index) {
      packed = packed << bits[index] | (KeyExtent::field(layout, key, index) - low[index]);
    }
    return packed;
  }

  PCPERC_HOST_DEVICE CoordKey unpack(uint64_t packed) const {
    CoordKey key = 0;
    PCPERC_DEVICE_UNROLL
    for (int index = kKeyFields - 1; index >= 0; --index) {
      const uint64_t value = (packed & ((uint64_t{1} << bits[index]) - 1)) + low[index];
      if (index <= layout.axes) key |= value << ((layout.axes - index) * layout.axis_bits);
      packed >>= bits[index];
    }
    return key;
  }
};

}  // namespace pcperc
