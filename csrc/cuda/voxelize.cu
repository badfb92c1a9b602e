// SPDX-License-Identifier: Apache-2.0
// Points to voxel keys, and keys to coords.
#include "voxelize.h"

#include <torch/csrc/stable/library.h>

#include "common/dispatch.h"
#include "common/launch.cuh"

namespace pcperc {
namespace {

template <class T>
__global__ void voxel_keys_kernel(const T* points, const int32_t* batch, VoxelGrid grid, int64_t n, int64_t stride,
                                  int64_t* keys) {
  PCPERC_GRID_LOOP(i, n) {
    const T* row = points + i * stride;
    keys[i] = voxel_key(static_cast<float>(row[0]), static_cast<float>(row[1]), static_cast<float>(row[2]),
                        batch ? batch[i] : 0, grid);
  }
}

__global__ void voxel_coords_kernel(const int64_t* keys, int64_t x, int64_t y, int64_t z, int64_t m, Coord* coords) {
  PCPERC_GRID_LOOP(i, m) { coords[i] = voxel_key_to_coord(keys[i], x, y, z); }
}

Tensor voxel_keys(const Tensor& points, const std::optional<Tensor>& batch_index, const std::vector<double>& lower,
                  const std::vector<double>& upper, const std::vector<double>& cell_size,
                  const std::vector<int64_t>& grid_shape, int64_t batch_size) {
  const int32_t* batch = check_voxel_points(points, batch_index);
  check_one_device("voxel_keys", {points, batch_index.value_or(points)});
  const VoxelGrid grid = make_voxel_grid(lower, upper, cell_size, grid_shape, batch_size);
  const int64_t n = points.size(0), stride = points.size(1);
  const CudaScope scope(points);
  const Tensor keys = empty_on(points, {n}, ScalarType::Long);
  if (n == 0) return keys;
  dispatch_float(points.scalar_type(), "voxel_keys", [&](auto zero) {
    using T = decltype(zero);
    voxel_keys_kernel<<<grid_size(n), kThreads, 0, scope.stream()>>>(
        points.const_data_ptr<T>(), batch, grid, n, stride, keys.mutable_data_ptr<int64_t>());
  });
  PCPERC_LAUNCH_CHECK();
  return keys;
}

Tensor voxel_coords(const Tensor& keys, const std::vector<int64_t>& grid_shape) {
  check_voxel_coords(keys, grid_shape);
  const int64_t m = keys.numel();
  const CudaScope scope(keys);
  const Tensor coords = empty_on(keys, {m, 4}, ScalarType::Int);
  if (m == 0) return coords;
  voxel_coords_kernel<<<grid_size(m), kThreads, 0, scope.stream()>>>(
      keys.const_data_ptr<int64_t>(), grid_shape[0], grid_shape[1], grid_shape[2], m,
      reinterpret_cast<Coord*>(coords.mutable_data_ptr<int32_t>()));
  PCPERC_LAUNCH_CHECK();
  return coords;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("voxel_keys", TORCH_BOX(&pcperc::voxel_keys));
  m.impl("voxel_coords", TORCH_BOX(&pcperc::voxel_coords));
}
