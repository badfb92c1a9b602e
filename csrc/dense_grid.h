// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where the points of clouds lie in dense grids of R x R x R voxels around them, the same on CPU and CUDA: the only place of
// these formulas (pcperc/ops/dense_grid.py has them in words).
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "common/check.h"
#include "common/dispatch.h"
#include "corners.h"

namespace pcperc {

// Points (N, 3) float32 or float64 of B clouds, each with a centre.
template <class T>
struct CentredClouds {
  const T* points;
  const int32_t* index;  // the cloud of each point; one outside [0, B) is in none
  const T* centres;      // (B, 3)
  int64_t num_points, batch_size;

  CentredClouds(const Tensor& points, const Tensor& index, const Tensor& centres)
      : points(points.const_data_ptr<T>()), index(index.const_data_ptr<int32_t>()), centres(centres.const_data_ptr<T>()),
        num_points(points.size(0)), batch_size(centres.size(0)) {}

  PCPERC_HOST_DEVICE bool has_cloud(int64_t p) const { return index[p] >= 0 && index[p] < batch_size; }

  // From the centre of its cloud to a point, along an axis.
  PCPERC_HOST_DEVICE T centred(int64_t p, int axis) const {
    return points[3 * p + axis] - centres[3 * int64_t{index[p]} + axis];
  }

  PCPERC_HOST_DEVICE T distance(int64_t p) const {
    if (!has_cloud(p)) return 0;
    const T x = centred(p, 0), y = centred(p, 1), z = centred(p, 2);
    return std::sqrt(plus(plus(times(x, x), times(y, y)), times(z, z)));
  }
};

template <class T>
struct GridVoxels {
  static constexpr int kCorners = 8;
  CentredClouds<T> clouds;
  const T* radii;  // (B, 1): the largest distance of a cloud, which fills its grid; null where none is scaled
  int64_t resolution;
  int32_t *voxel, *rows;  // (N,) and (N, 8); -1 for none
  T* weights;             // (N, 8)

  GridVoxels(const CentredClouds<T>& clouds, const std::optional<Tensor>& radii, int64_t resolution, const Tensor& voxel,
             const std::pair<Tensor, Tensor>& found)
      : clouds(clouds), radii(radii ? radii->const_data_ptr<T>() : nullptr), resolution(resolution),
        voxel(data_of<int32_t>(voxel)), rows(data_of<int32_t>(found.first)), weights(data_of<T>(found.second)) {}

  PCPERC_HOST_DEVICE int32_t number(int64_t item, int64_t x, int64_t y, int64_t z) const {
    return static_cast<int32_t>(((item * resolution + x) * resolution + y) * resolution + z);
  }

  // Where a point lies along an axis, in voxels from 0 to R - 1; NaN where its cloud has no centre.
  PCPERC_HOST_DEVICE T place(int64_t p, int axis) const {
    const T centred = clouds.centred(p, axis), last = static_cast<T>(resolution - 1);
    T unit;
    if (radii) {
      const T radius = radii[clouds.index[p]];  // 0 where all points coincide, NaN where one is not finite
      unit = centred / (radius > 0 ? 2 * radius : radius == 0 ? 1 : std::numeric_limits<T>::quiet_NaN()) + T(0.5);
    } else {
      unit = (centred + 1) / 2;
    }
    const T value = times(unit, static_cast<T>(resolution));
    return value < 0 ? 0 : value > last ? last : value;
  }

  PCPERC_HOST_DEVICE void find(int64_t p) const {
    T place[3] = {0, 0, 0};
    bool exists = clouds.has_cloud(p);
    for (int axis = 0; axis < 3 && exists; ++axis) {
      place[axis] = this->place(p, axis);
      exists = std::isfinite(place[axis]);
    }
    int64_t low[3];
    T above[3];
    for (int axis = 0; axis < 3; ++axis) {
      if (!exists) place[axis] = 0;
      low[axis] = static_cast<int64_t>(place[axis]);
      above[axis] = place[axis] - static_cast<T>(low[axis]);
    }
    const int64_t item = clouds.index[p];
    const auto nearest = [](T value) { return static_cast<int64_t>(std::rint(value)); };  // of two the even one
    voxel[p] = exists ? number(item, nearest(place[0]), nearest(place[1]), nearest(place[2])) : -1;
    PCPERC_DEVICE_UNROLL
    for (int corner = 0; corner < kCorners; ++corner) {
      int64_t at[3];
      bool inside = exists;  // behind the last voxel the weight is 0
      for (int axis = 0; axis < 3; ++axis) {
        at[axis] = low[axis] + corner_side<3>(corner, axis);
        inside = inside && at[axis] < resolution;
      }
      rows[p * kCorners + corner] = inside ? number(item, at[0], at[1], at[2]) : -1;
      weights[p * kCorners + corner] = corner_weight(corner, above);
    }
  }
};

inline void check_centred_clouds(const char* op, const Tensor& points, const Tensor& index, const Tensor& centres) {
  check_matrix(points, op, "points");
  check_matrix(centres, op, "centres");
  check_dtype(centres, points.scalar_type(), op, "centres");
  check_dtype(index, ScalarType::Int, op, "index");
  STD_TORCH_CHECK(points.size(1) == 3 && centres.size(1) == 3, op, ": points and centres must have 3 columns");
  STD_TORCH_CHECK(index.dim() == 1 && index.is_contiguous() && index.numel() == points.size(0), op,
                  ": index must have one value a point");
}

inline void check_grid_voxels(const char* op, const Tensor& points, const Tensor& index, const Tensor& centres,
                              const std::optional<Tensor>& radii, int64_t resolution) {
  check_centred_clouds(op, points, index, centres);
  const int64_t batch_size = centres.size(0);
  if (radii) {
    check_dtype(*radii, points.scalar_type(), op, "radii");
    STD_TORCH_CHECK(radii->is_contiguous() && radii->numel() == batch_size, op, ": radii must have one value a cloud");
  }
  const double side = static_cast<double>(resolution);
  STD_TORCH_CHECK(resolution >= 1 && batch_size * side * side * side <= INT32_MAX, op,
                  ": resolution must be 1 or more and make at most 2^31 - 1 voxels, got ", resolution);
}

}  // namespace pcperc
