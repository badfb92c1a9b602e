// SPDX-License-Identifier: Apache-2.0
#pragma once
// The geometry of a convolution, on host and device. The only place where this formula lives:
//
//     fine = stride * coarse + dilation * tap - padding        (for each axis)
//
// `coarse` is the lattice of a convolution's output, `fine` that of its input. Taps are numbered lexicographically over
// (x, y, z), z fastest. Even kernels need no special case.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "common/check.h"
#include "common/coord_key.h"

namespace pcperc {

constexpr int64_t kMaxKernelVolume = 4096;

struct ConvGeometry {
  int32_t kernel[3], stride[3], padding[3], dilation[3];

  PCPERC_HOST_DEVICE int32_t volume() const { return kernel[0] * kernel[1] * kernel[2]; }

  PCPERC_HOST_DEVICE int64_t fine(int axis, int32_t coarse, int32_t tap) const {
    return static_cast<int64_t>(stride[axis]) * coarse + static_cast<int64_t>(dilation[axis]) * tap - padding[axis];
  }

  // Solve the formula for `coarse`; false where no whole number does.
  PCPERC_HOST_DEVICE bool coarse(int axis, int32_t fine, int32_t tap, int64_t& result) const {
    const int64_t shifted = static_cast<int64_t>(fine) + padding[axis] - static_cast<int64_t>(dilation[axis]) * tap;
    result = shifted / stride[axis];
    return result * stride[axis] == shifted;
  }

  // The key of the input voxel that output voxel `out` sees under tap (tx, ty, tz), or kEmptyKey where it cannot exist.
  PCPERC_HOST_DEVICE CoordKey fine_key(const Coord& out, int32_t tx, int32_t ty, int32_t tz) const {
    const int64_t x = fine(0, out.x, tx), y = fine(1, out.y, ty), z = fine(2, out.z, tz);
    if (!axis_in_range(x) || !axis_in_range(y) || !axis_in_range(z)) return kEmptyKey;
    return make_key({out.batch, static_cast<int32_t>(x), static_cast<int32_t>(y), static_cast<int32_t>(z)});
  }

  // True where tap k of row m meeting row n means that tap volume - 1 - k of row n meets row m.
  bool is_symmetric() const {
    for (int axis = 0; axis < 3; ++axis) {
      if (stride[axis] != 1 || 2 * padding[axis] != dilation[axis] * (kernel[axis] - 1)) return false;
    }
    return true;
  }

  // How many outputs one input can feed along an axis, at the most: taps with the right remainder of dilation * tap.
  int64_t max_outputs(int axis) const {
    const int32_t period = stride[axis] / std::gcd(stride[axis], dilation[axis]);
    return (kernel[axis] + period - 1) / period;
  }
};

// Build from what an operator was given: three values each, and small enough that no product overflows.
inline ConvGeometry make_geometry(const char* op, const std::vector<int64_t>& kernel, const std::vector<int64_t>& stride,
                                  const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation) {
  ConvGeometry geometry{};
  int64_t volume = 1;
  const auto fill = [op](const char* name, const std::vector<int64_t>& from, int32_t* to, int64_t low) {
    STD_TORCH_CHECK(from.size() == 3, op, ": ", name, " must have 3 values, got ", from.size());
    for (int axis = 0; axis < 3; ++axis) {
      if (from[axis] < low || from[axis] > kMaxCoord) {
        value_error(op, ": ", name, " must be in [", low, ", ", kMaxCoord, "], got ", from[axis]);
      }
      to[axis] = static_cast<int32_t>(from[axis]);
    }
  };
  fill("kernel_size", kernel, geometry.kernel, 1);
  fill("stride", stride, geometry.stride, 1);
  fill("padding", padding, geometry.padding, 0);
  fill("dilation", dilation, geometry.dilation, 1);
  for (int axis = 0; axis < 3; ++axis) volume *= geometry.kernel[axis];
  if (volume > kMaxKernelVolume) value_error(op, ": kernel_size has ", volume, " taps; at most ", kMaxKernelVolume, " are supported");
  return geometry;
}

// Outputs outside [0, limit) are dropped; without limits the lattice is unbounded.
struct OutputLimits {
  bool bounded;
  int32_t limit[3];

  PCPERC_HOST_DEVICE bool drops(int axis, int64_t coarse) const { return bounded && (coarse < 0 || coarse >= limit[axis]); }
};

inline OutputLimits make_output_limits(const char* op, const std::vector<int64_t>& output_shape) {
  OutputLimits limits{!output_shape.empty(), {0, 0, 0}};
  STD_TORCH_CHECK(output_shape.empty() || output_shape.size() == 3, op, ": output_shape must have 3 values or none");
  for (size_t axis = 0; axis < output_shape.size(); ++axis) {
    limits.limit[axis] = static_cast<int32_t>(std::clamp<int64_t>(output_shape[axis], 0, kMaxCoord + 1));
  }
  return limits;
}

}  // namespace pcperc
