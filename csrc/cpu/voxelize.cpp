// SPDX-License-Identifier: Apache-2.0
// Points to voxel keys, and keys to coords.
#include "voxelize.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <vector>

#include "common/dispatch.h"
#include "common/parallel.h"

namespace pcperc {
namespace {

constexpr int64_t kGrain = 4096;

Tensor voxel_keys(const Tensor& points, const std::optional<Tensor>& batch_index, const std::vector<double>& lower,
                  const std::vector<double>& upper, const std::vector<double>& cell_size,
                  const std::vector<int64_t>& grid_shape, int64_t batch_size) {
  const int32_t* batch = check_voxel_points(points, batch_index);
  const VoxelGrid grid = make_voxel_grid(lower, upper, cell_size, grid_shape, batch_size);
  const int64_t n = points.size(0), stride = points.size(1);
  Tensor keys = torch::stable::new_empty(points, {n}, ScalarType::Long);
  int64_t* out = keys.mutable_data_ptr<int64_t>();
  dispatch_float(points.scalar_type(), "voxel_keys", [&](auto zero) {
    using T = decltype(zero);
    const T* p = points.const_data_ptr<T>();
    parallel_rows(n, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* row = p + i * stride;
        out[i] = voxel_key(static_cast<float>(row[0]), static_cast<float>(row[1]),
                           static_cast<float>(row[2]), batch ? batch[i] : 0, grid);
      }
    });
  });
  return keys;
}

Tensor voxel_coords(const Tensor& keys, const std::vector<int64_t>& grid_shape) {
  check_voxel_coords(keys, grid_shape);
  const int64_t m = keys.numel();
  Tensor coords = torch::stable::new_empty(keys, {m, 4}, ScalarType::Int);
  const int64_t* key = keys.const_data_ptr<int64_t>();
  Coord* out = reinterpret_cast<Coord*>(coords.mutable_data_ptr<int32_t>());
  for (int64_t i = 0; i < m; ++i) out[i] = voxel_key_to_coord(key[i], grid_shape[0], grid_shape[1], grid_shape[2]);
  return coords;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("voxel_keys", TORCH_BOX(&pcperc::voxel_keys));
  m.impl("voxel_coords", TORCH_BOX(&pcperc::voxel_coords));
}
