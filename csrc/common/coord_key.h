// SPDX-License-Identifier: Apache-2.0
#pragma once
// A row of coords [batch, x, (y, (z, (t)))] <-> one 64-bit key, on host and device.
//
// Layout, most significant first: batch 10 bits | 3 axes of 18 bits, where the axes that a row lacks are 0; for rows of 4 axes
// batch 8 bits | 4 axes of 14 bits. Each axis is stored with an offset, so the unsigned order of keys is the lexicographic
// order of rows, negative coordinates included. The map is one to one: comparing keys is comparing coordinates.
//
// A row of batch index -1 is padding: it has no key, and every operator passes over it.
#include <cstdint>

#if defined(__CUDACC__)
#define PCPERC_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define PCPERC_HOST_DEVICE inline
#endif

// In front of a loop over the axes: a GPU then keeps arrays of their values in registers.
#if defined(__CUDA_ARCH__)
#define PCPERC_DEVICE_UNROLL _Pragma("unroll")
#else
#define PCPERC_DEVICE_UNROLL
#endif

namespace pcperc {

using CoordKey = uint64_t;

constexpr int kMaxDims = 4;
constexpr int32_t kPaddingBatch = -1;
constexpr CoordKey kEmptyKey = ~CoordKey{0};  // the key of no voxel: its batch index is free; it sorts behind every key

// The finaliser of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
PCPERC_HOST_DEVICE uint64_t hash_key(CoordKey key) {
  key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9ULL;
  key = (key ^ (key >> 27)) * 0x94d049bb133111ebULL;
  return key ^ (key >> 31);
}

struct KeyLayout {
  int32_t dims;       // axes of a row, 1 to 4
  int32_t axes;       // axes of a key, 3 or 4
  int32_t axis_bits;  // 18 or 14

  explicit constexpr KeyLayout(int64_t row_dims)
      : dims(static_cast<int32_t>(row_dims)), axes(row_dims <= 3 ? 3 : 4), axis_bits(row_dims <= 3 ? 18 : 14) {}

  PCPERC_HOST_DEVICE int32_t columns() const { return 1 + dims; }
  PCPERC_HOST_DEVICE int32_t min_coord() const { return -(1 << (axis_bits - 1)); }
  PCPERC_HOST_DEVICE int32_t max_coord() const { return (1 << (axis_bits - 1)) - 1; }
  PCPERC_HOST_DEVICE int32_t max_batch() const { return (1 << (64 - axes * axis_bits)) - 2; }
  PCPERC_HOST_DEVICE bool in_range(int64_t coord) const { return coord >= min_coord() && coord <= max_coord(); }

  // The bits of a key that hold one coordinate in range, and what they hold.
  PCPERC_HOST_DEVICE CoordKey axis_key(int axis, int64_t coord) const {
    return static_cast<CoordKey>(coord - min_coord()) << ((axes - 1 - axis) * axis_bits);
  }
  PCPERC_HOST_DEVICE int32_t axis_coord(CoordKey key, int axis) const {
    const CoordKey mask = (CoordKey{1} << axis_bits) - 1;
    return static_cast<int32_t>(key >> ((axes - 1 - axis) * axis_bits) & mask) + min_coord();
  }
  PCPERC_HOST_DEVICE CoordKey batch_key(CoordKey key) const { return key >> (axes * axis_bits) << (axes * axis_bits); }

  // True for a row without a key that is no padding either.
  PCPERC_HOST_DEVICE bool is_bad(CoordKey key, const int32_t* row) const {
    return key == kEmptyKey && row[0] != kPaddingBatch;
  }

  // The key of a row, or kEmptyKey where it is padding or a value is out of range.
  PCPERC_HOST_DEVICE CoordKey row_key(const int32_t* row) const {
    // Without branches, so that the values are read together.
    bool has_key = row[0] >= 0 && row[0] <= max_batch();
    CoordKey key = static_cast<CoordKey>(row[0]) << (axes * axis_bits);
    PCPERC_DEVICE_UNROLL
    for (int axis = 0; axis < kMaxDims; ++axis) {
      const int32_t coord = axis < dims ? row[1 + axis] : 0;
      has_key = has_key & in_range(coord);
      if (axis < axes) key |= axis_key(axis, coord);
    }
    return has_key ? key : kEmptyKey;
  }

  PCPERC_HOST_DEVICE void write_row(CoordKey key, int32_t* row) const {
    row[0] = static_cast<int32_t>(key >> (axes * axis_bits));
    for (int axis = 0; axis < dims; ++axis) row[1 + axis] = axis_coord(key, axis);
  }

  PCPERC_HOST_DEVICE void write_padding(int32_t* row) const {
    row[0] = kPaddingBatch;
    for (int axis = 0; axis < dims; ++axis) row[1 + axis] = 0;
  }
};

}  // namespace pcperc
