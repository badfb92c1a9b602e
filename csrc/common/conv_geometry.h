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
  int64_t first, step, count;

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
  int32_t tap_period[kMaxDims];  // every tap_period-th tap of an axis meets the lattice of outputs in the same way

  PCPERC_HOST_DEVICE int32_t volume() const { return kernel[0] * kernel[1] * kernel[2] * kernel[3]; }

  PCPERC_HOST_DEVICE int64_t fine(int axis, int32_t coarse, int32_t tap) const {
    return static_cast<int64_t>(stride[axis]) * coarse + static_cast<int64_t>(dilation[axis]) * tap - padding[axis];
  }

  // All `fine` that an output sees along an axis.
  PCPERC_HOST_DEVICE AxisRange fine_range(int axis, int32_t coarse) const {
    return {fine(axis, coarse, 0), dilation[axis], kernel[axis]};
  }

  // All `coarse` that an input feeds along an axis: the formula solved for the taps where a whole number does.
  PCPERC_HOST_DEVICE AxisRange coarse_range(int axis, int32_t fine) const {
    const int64_t step = static_cast<int64_t>(dilation[axis]) * tap_period[axis] / stride[axis];
    int32_t rest = fine + padding[axis];
    for (int32_t tap = 0; tap < tap_period[axis] && tap < kernel[axis]; ++tap, rest -= dilation[axis]) {
      if (rest % stride[axis] != 0) continue;
      const int64_t count = (kernel[axis] - tap + tap_period[axis] - 1) / tap_period[axis];
      return {rest / stride[axis] - (count - 1) * step, step, count};
    }
    return {0, 1, 0};
  }

  // The key of the input voxel that the output voxel with key `coarse` sees under a tap, or kEmptyKey where it cannot exist.
  PCPERC_HOST_DEVICE CoordKey fine_key(CoordKey coarse, int32_t tap) const {
    CoordKey key = layout.batch_key(coarse);
    for (int axis = layout.axes - 1; axis >= 0; --axis) {
      const int64_t value = fine(axis, layout.axis_coord(coarse, axis), tap % kernel[axis]);
      if (!layout.in_range(value)) return kEmptyKey;
      key |= layout.axis_key(axis, value);
      tap /= kernel[axis];
    }
    return key;
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
    for (int axis = 0; axis < kMaxDims; ++axis) count *= (kernel[axis] + tap_period[axis] - 1) / tap_period[axis];
    return count;
  }
};

// Build from what an operator was given: a value for each axis of the rows.
inline ConvGeometry make_geometry(const char* op, KeyLayout layout, const std::vector<int64_t>& kernel,
                                  const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
                                  const std::vector<int64_t>& dilation) {
  ConvGeometry geometry{layout, {1, 1, 1, 1}, {1, 1, 1, 1}, {0, 0, 0, 0}, {1, 1, 1, 1}, {1, 1, 1, 1}};
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
    geometry.tap_period[axis] = geometry.stride[axis] / std::gcd(geometry.stride[axis], geometry.dilation[axis]);
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

// The coordinates that one voxel reaches: the product of a range for each axis.
struct ReachedCoords {
  AxisRange ranges[kMaxDims];
  int64_t count;
  bool in_range;  // whether all of them have a key

  template <Direction direction>
  PCPERC_HOST_DEVICE static ReachedCoords from(CoordKey key, const ConvGeometry& geometry, const LatticeBounds& bounds) {
    ReachedCoords reached;
    reached.count = 1;
    reached.in_range = true;
    for (int axis = 0; axis < geometry.layout.axes; ++axis) {
      const int32_t coord = geometry.layout.axis_coord(key, axis);
      AxisRange& range = reached.ranges[axis];
      range = direction == Direction::kToCoarse ? geometry.coarse_range(axis, coord) : geometry.fine_range(axis, coord);
      range.clip(bounds.low, bounds.high[axis]);
      reached.count *= range.count;
      reached.in_range = reached.in_range && geometry.layout.in_range(range.first) && geometry.layout.in_range(range.last());
    }
    reached.in_range = reached.in_range || reached.count == 0;
    return reached;
  }

  // The key of the index-th of them, for coordinates of the batch item of `key`.
  PCPERC_HOST_DEVICE CoordKey key_at(CoordKey key, const KeyLayout& layout, int64_t index) const {
    CoordKey result = layout.batch_key(key);
    for (int axis = layout.axes - 1; axis >= 0; --axis) {
      result |= layout.axis_key(axis, ranges[axis].first + index % ranges[axis].count * ranges[axis].step);
      index /= ranges[axis].count;
    }
    return result;
  }
};

}  // namespace pcperc
