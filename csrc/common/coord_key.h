// SPDX-License-Identifier: Apache-2.0
#pragma once
// (batch, x, y, z) <-> one 64-bit key, on host and device.
//
// Layout, most significant first: batch 10 bits | x 18 | y 18 | z 18. Each axis is stored with an offset of 2^17, so the
// unsigned order of keys is the lexicographic order of (batch, x, y, z), negative coordinates included. The map is one to
// one: comparing keys is comparing coordinates.
#include <cstdint>

#if defined(__CUDACC__)
#define PCPERC_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define PCPERC_HOST_DEVICE inline
#endif

namespace pcperc {

using CoordKey = uint64_t;

constexpr int kAxisBits = 18;
constexpr int32_t kMaxBatch = 1022;                     // batch 1023 is left free for kEmptyKey
constexpr int32_t kMinCoord = -(1 << (kAxisBits - 1));  // -131072
constexpr int32_t kMaxCoord = (1 << (kAxisBits - 1)) - 1;
constexpr CoordKey kEmptyKey = ~CoordKey{0};  // the key of no voxel; it sorts behind every key

// One row of a coords tensor (M, 4) int32.
struct Coord {
  int32_t batch, x, y, z;
};

PCPERC_HOST_DEVICE bool axis_in_range(int64_t value) { return value >= kMinCoord && value <= kMaxCoord; }

PCPERC_HOST_DEVICE bool coord_in_range(const Coord& c) {
  return c.batch >= 0 && c.batch <= kMaxBatch && axis_in_range(c.x) && axis_in_range(c.y) && axis_in_range(c.z);
}

// The key of a coordinate that is in range.
PCPERC_HOST_DEVICE CoordKey make_key(const Coord& c) {
  return (static_cast<CoordKey>(c.batch) << (3 * kAxisBits)) |
         (static_cast<CoordKey>(c.x - kMinCoord) << (2 * kAxisBits)) |
         (static_cast<CoordKey>(c.y - kMinCoord) << kAxisBits) | static_cast<CoordKey>(c.z - kMinCoord);
}

PCPERC_HOST_DEVICE Coord key_to_coord(CoordKey key) {
  constexpr CoordKey mask = (CoordKey{1} << kAxisBits) - 1;
  return {static_cast<int32_t>(key >> (3 * kAxisBits)),
          static_cast<int32_t>((key >> (2 * kAxisBits)) & mask) + kMinCoord,
          static_cast<int32_t>((key >> kAxisBits) & mask) + kMinCoord, static_cast<int32_t>(key & mask) + kMinCoord};
}

}  // namespace pcperc
