// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which cell of a bounded grid holds a point: the only place of this formula, for voxels and for bird's-eye-view cells.
//
// A cell's key is ((batch * X + x) * Y + y) * Z + z, so keys sort like the rows [batch, x, y, z].
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "common/check.h"
#include "common/coord_key.h"

namespace pcperc {

struct VoxelGrid {
  float lower[3], upper[3], cell_size[3];  // metres; upper may be infinite: the shape then bounds the grid alone
  int64_t shape[3];
  int64_t batch_size;
};

inline VoxelGrid make_voxel_grid(const std::vector<double>& lower, const std::vector<double>& upper,
                                 const std::vector<double>& cell_size, const std::vector<int64_t>& shape,
                                 int64_t batch_size) {
  STD_TORCH_CHECK(lower.size() == 3 && upper.size() == 3 && cell_size.size() == 3 && shape.size() == 3,
                  "voxel_keys: lower, upper, cell_size and grid_shape must have 3 values each");
  VoxelGrid grid{};
  for (int axis = 0; axis < 3; ++axis) {
    grid.lower[axis] = static_cast<float>(lower[axis]);
    grid.upper[axis] = static_cast<float>(upper[axis]);
    grid.cell_size[axis] = static_cast<float>(cell_size[axis]);
    grid.shape[axis] = shape[axis];
  }
  grid.batch_size = batch_size;
  return grid;
}

// Pointer to one batch item a point, or null where all points are of item 0.
inline const int32_t* check_voxel_points(const Tensor& points, const std::optional<Tensor>& batch_index) {
  check_matrix(points, "voxel_keys", "points");
  STD_TORCH_CHECK(points.size(1) >= 3, "voxel_keys: points must have at least 3 columns, got ", points.size(1));
  if (!batch_index) return nullptr;
  check_dtype(*batch_index, ScalarType::Int, "voxel_keys", "batch_index");
  STD_TORCH_CHECK(batch_index->dim() == 1 && batch_index->size(0) == points.size(0) && batch_index->is_contiguous(),
                  "voxel_keys: batch_index must have one value a point");
  return batch_index->const_data_ptr<int32_t>();
}

inline void check_voxel_coords(const Tensor& keys, const std::vector<int64_t>& grid_shape) {
  check_dtype(keys, ScalarType::Long, "voxel_coords", "keys");
  STD_TORCH_CHECK(keys.dim() == 1 && keys.is_contiguous(), "voxel_coords: keys must be contiguous, 1 dimension");
  STD_TORCH_CHECK(grid_shape.size() == 3 && grid_shape[0] > 0 && grid_shape[1] > 0 && grid_shape[2] > 0,
                  "voxel_coords: grid_shape must have 3 values > 0");
}

// floor((value - lower) / cell_size) in float32, or -1 outside the grid and for NaN. Written so that only values that fit are
// ever converted to an integer.
PCPERC_HOST_DEVICE int64_t cell_of(float value, int axis, const VoxelGrid& grid) {
  if (!(value >= grid.lower[axis] && value < grid.upper[axis])) return -1;
  const float quotient = (value - grid.lower[axis]) / grid.cell_size[axis];
  return quotient < static_cast<float>(grid.shape[axis]) ? static_cast<int64_t>(quotient) : -1;
}

PCPERC_HOST_DEVICE int64_t voxel_key(float x, float y, float z, int64_t batch, const VoxelGrid& grid) {
  const int64_t i = cell_of(x, 0, grid), j = cell_of(y, 1, grid), k = cell_of(z, 2, grid);
  if (i < 0 || j < 0 || k < 0 || batch < 0 || batch >= grid.batch_size) return -1;
  return ((batch * grid.shape[0] + i) * grid.shape[1] + j) * grid.shape[2] + k;
}

// One row of a coords tensor (M, 4) int32.
struct Coord {
  int32_t batch, x, y, z;
};

PCPERC_HOST_DEVICE Coord voxel_key_to_coord(int64_t key, const int64_t shape_x, const int64_t shape_y,
                                            const int64_t shape_z) {
  const int64_t xy = key / shape_z, bx = xy / shape_y;
  return {static_cast<int32_t>(bx / shape_x), static_cast<int32_t>(bx % shape_x), static_cast<int32_t>(xy % shape_y),
          static_cast<int32_t>(key % shape_z)};
}

}  // namespace pcperc
