// SPDX-License-Identifier: Apache-2.0
#pragma once
// The geometry of a convolution, on host and device. The only place where this formula lives:
//
//     fine = stride * coarse + dilation * tap - padding        (for each axis)
//
// `coarse` is the lattice of a convolution's output, `fine` that of its input. Taps are numbered lexicographically over
// (x, (y, (z, (t)))), the last axis fastest. Even kernels need no special case.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "common/check.h"
#include "common/coord_key.h"

namespace pcperc {

constexpr int64_t kMaxKernelVolume = 4096;
constexpr int64_t kMaxParameter = (1 << 17) - 1;  // of kernel size, stride, padding and dilation: no product overflows

// The values first, first + step, ... along an axis, `count` of them; step > 0.
struct AxisRange {
  int64_t first, step;
  int32_t count;

  PCPERC_HOST_DEVICE int64_t last() const { return first + (count - 1) * step; }

  // Keep the values in [low, high).
  PCPERC_HOST_DEVICE void clip(int64_t low, int64_t high) {
    while (count > 0 && first < low) first += step, --count;
    while (count > 0 && last() >= high) --count;
  }
};

struct ConvGeometry {
  KeyLayout layout;
  // Axes that the rows lack have kernel size, stride and dilation 1 and padding 0: their only coordinate stays 0.
  int32_t kernel[kMaxDims], stride[kMaxDims], padding[kMaxDims], dilation[kMaxDims];
  // An input that feeds an output along an axis under some tap also feeds, tap_period taps on, the one coarse_step before.
  int32_t tap_period[kMaxDims], coarse_step[kMaxDims];

  PCPERC_HOST_DEVICE int32_t volume() const { return kernel[0] * kernel[1] * kernel[2] * kernel[3]; }

  PCPERC_HOST_DEVICE int64_t fine(int axis, int32_t coarse, int32_t tap) const {
    return static_cast<int64_t>(stride[axis]) * coarse + static_cast<int64_t>(dilation[axis]) * tap - padding[axis];
  }

  // All `fine` that an output sees along an axis.
  PCPERC_HOST_DEVICE AxisRange fine_range(int axis, int32_t coarse) const {
    return {fine(axis, coarse, 0), dilation[axis], kernel[axis]};
  }

  // All `coarse` that an input feeds along an axis: the formula solved for it, under those taps where a whole number solves it.
  PCPERC_HOST_DEVICE AxisRange coarse_range(int axis, int32_t fine) const {
    const int32_t shifted = fine + padding[axis];
    int32_t tap = 0, coarse = shifted / stride[axis];  // the first such tap and its output
    if (dilation[axis] == 1) {
      coarse -= coarse * stride[axis] > shifted;  // rounded down, so that the rest is a tap
      tap = shifted - coarse * stride[axis];
    } else {
      while (tap < tap_period[axis] && tap < kernel[axis] && (shifted - dilation[axis] * tap) % stride[axis] != 0) ++tap;
      coarse = (shifted - dilation[axis] * tap) / stride[axis];
    }
    if (tap >= tap_period[axis] || tap >= kernel[axis]) return {0, 1, 0};
    int32_t count = 1;
    for (; tap + tap_period[axis] < kernel[axis]; tap += tap_period[axis]) ++count;
    return {coarse - static_cast<int64_t>(count - 1) * coarse_step[axis], coarse_step[axis], count};
  }

  // The key of the input voxel that the output voxel with key `coarse` sees under a tap, or kEmptyKey where it cannot exist or
  // `coarse` is kEmptyKey.
  PCPERC_HOST_DEVICE CoordKey fine_key(CoordKey coarse, int32_t tap) const {
    if (coarse == kEmptyKey) return kEmptyKey;
    CoordKey key = layout.batch_key(coarse);
    for (int axis = layout.axes - 1; axis >= 0; --axis) {
      const int64_t value = fine(axis, layout.axis_coord(coarse, axis), tap % kernel[axis]);
      if (!layout.in_range(value)) return kEmptyKey;
      key |= layout.axis_key(axis, value);
      tap /= kernel[axis];
    }
    return key;
  }

  // Whether there is a key under every tap of the output voxel with key `coarse`. `first` is then the key under tap 0, and
  // first + tap_offset(tap) that under another one.
  PCPERC_HOST_DEVICE bool sees_all_taps(CoordKey coarse, CoordKey& first) const {
    first = layout.batch_key(coarse);
    for (int axis = 0; axis < layout.axes; ++axis) {
      const AxisRange range = fine_range(axis, layout.axis_coord(coarse, axis));
      if (!layout.in_range(range.first) || !layout.in_range(range.last())) return false;
      first |= layout.axis_key(axis, range.first);
    }
    return true;
  }

  PCPERC_HOST_DEVICE CoordKey tap_offset(int32_t tap) const {
    CoordKey offset = 0;
    for (int axis = layout.axes - 1; axis >= 0; --axis) {
      offset += layout.axis_key(axis, layout.min_coord() + static_cast<int64_t>(dilation[axis]) * (tap % kernel[axis]));
      tap /= kernel[axis];
    }
    return offset;
  }

  // True where tap k of row m meeting row n means that tap volume - 1 - k of row n meets row m.
  bool is_symmetric() const {
    for (int axis = 0; axis < kMaxDims; ++axis) {
      if (stride[axis] != 1 || 2 * padding[axis] != dilation[axis] * (kernel[axis] - 1)) return false;
    }
    return true;
  }

  // How many outputs one input can feed, at the most.
  int64_t max_outputs() const {
    int64_t count = 1;
    for (int axis = 0; axis < kMaxDims; ++axis) count *= (kernel[axis] - 1) / tap_period[axis] + 1;
    return count;
  }
};

// Build from what an operator was given: a value for each axis of the rows.
inline ConvGeometry make_geometry(const char* op, KeyLayout layout, const std::vector<int64_t>& kernel,
                                  const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
                                  const std::vector<int64_t>& dilation) {
  ConvGeometry geometry{layout, {1, 1, 1, 1}, {1, 1, 1, 1}, {0, 0, 0, 0}, {1, 1, 1, 1}, {1, 1, 1, 1}, {1, 1, 1, 1}};
  const auto fill = [&](const char* name, const std::vector<int64_t>& from, int32_t* to, int64_t low) {
    STD_TORCH_CHECK(static_cast<int64_t>(from.size()) == layout.dims, op, ": ", name, " must have ", layout.dims,
                    " values, got ", from.size());
    for (size_t axis = 0; axis < from.size(); ++axis) {
      if (from[axis] < low || from[axis] > kMaxParameter) {
        value_error(op, ": ", name, " must be in [", low, ", ", kMaxParameter, "], got ", from[axis]);
      }
      to[axis] = static_cast<int32_t>(from[axis]);
    }
  };
  fill("kernel_size", kernel, geometry.kernel, 1);
  fill("stride", stride, geometry.stride, 1);
  fill("padding", padding, geometry.padding, 0);
  fill("dilation", dilation, geometry.dilation, 1);
  double volume = 1;
  for (int axis = 0; axis < kMaxDims; ++axis) {
    volume *= geometry.kernel[axis];
    const int32_t divisor = std::gcd(geometry.stride[axis], geometry.dilation[axis]);
    geometry.tap_period[axis] = geometry.stride[axis] / divisor;
    geometry.coarse_step[axis] = geometry.dilation[axis] / divisor;
  }
  if (volume > kMaxKernelVolume) value_error(op, ": kernel_size must make at most ", kMaxKernelVolume, " taps, got ", volume);
  return geometry;
}

// Coordinates outside [low, high) of an axis are dropped; without a shape the lattice is unbounded.
struct LatticeBounds {
  int64_t low, high[kMaxDims];
};

inline LatticeBounds make_bounds(const char* op, KeyLayout layout, const std::vector<int64_t>& output_shape) {
  constexpr int64_t lowest = std::numeric_limits<int64_t>::min(), highest = std::numeric_limits<int64_t>::max();
  LatticeBounds bounds{output_shape.empty() ? lowest : 0, {highest, highest, highest, highest}};
  STD_TORCH_CHECK(output_shape.empty() || static_cast<int64_t>(output_shape.size()) == layout.dims, op,
                  ": output_shape must have ", layout.dims, " values or none, got ", output_shape.size());
  std::copy(output_shape.begin(), output_shape.end(), bounds.high);
  return bounds;
}

// Which way coordinates are carried along the formula.
enum class Direction { kToCoarse, kToFine };

// The coordinates that one voxel reaches: the product of a range for each axis, as keys.
struct ReachedCoords {
  CoordKey first, step[kMaxDims];
  int32_t counts[kMaxDims];
  int64_t total;
  bool in_range;  // whether all of them have a key

  template <Direction direction>
  PCPERC_HOST_DEVICE static ReachedCoords from(CoordKey key, const ConvGeometry& geometry, const LatticeBounds& bounds) {
    const KeyLayout& layout = geometry.layout;
    ReachedCoords reached{layout.batch_key(key), {0, 0, 0, 0}, {1, 1, 1, 1}, 1, true};
    PCPERC_DEVICE_UNROLL
    for (int axis = 0; axis < kMaxDims; ++axis) {
      if (axis >= layout.axes) continue;
      const int32_t coord = layout.axis_coord(key, axis);
      AxisRange range =
          direction == Direction::kToCoarse ? geometry.coarse_range(axis, coord) : geometry.fine_range(axis, coord);
      range.clip(bounds.low, bounds.high[axis]);
      reached.first += layout.axis_key(axis, range.first);
      reached.step[axis] = layout.axis_key(axis, layout.min_coord() + range.step);
      reached.counts[axis] = range.count;
      reached.total *= range.count;
      reached.in_range = reached.in_range && layout.in_range(range.first) && layout.in_range(range.last());
    }
    reached.in_range = reached.in_range || reached.total == 0;
    return reached;
  }

  PCPERC_HOST_DEVICE CoordKey last() const {
    CoordKey key = first;
    PCPERC_DEVICE_UNROLL
    for (int axis = 0; axis < kMaxDims; ++axis) key += (counts[axis] - 1) * step[axis];
    return key;
  }

  // Call visit(key) for all of them; only where they are in range.
  template <class Visit>
  PCPERC_HOST_DEVICE void visit_keys(const Visit& visit) const {
    CoordKey keys[kMaxDims] = {first};
    for (int32_t i = 0; i < counts[0]; ++i, keys[0] += step[0]) {
      keys[1] = keys[0];
      for (int32_t j = 0; j < counts[1]; ++j, keys[1] += step[1]) {
        keys[2] = keys[1];
        for (int32_t k = 0; k < counts[2]; ++k, keys[2] += step[2]) {
          keys[3] = keys[2];
          for (int32_t l = 0; l < counts[3]; ++l, keys[3] += step[3]) visit(keys[3]);
        }
      }
    }
  }
};

}  // namespace pcperc
