// SPDX-License-Identifier: Apache-2.0
// Points to voxel keys, keys to coords, and the mean of the points of a voxel.
#include "voxelize.h"

#include <torch/csrc/stable/library.h>

#include "common/dispatch.h"
#include "common/launch.cuh"
#include "segment.h"

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

// One thread a (segment, channel), which walks the rows of the segment in order.
template <class T>
__global__ void segment_mean_kernel(const T* feats, MeanSegments s, int64_t num_rows, int64_t channels, T* mean) {
  PCPERC_GRID_LOOP(index, s.size * channels) {
    const int64_t i = index / channels, c = index % channels;
    const EntryRange range = s.entries(i);
    Accumulator<T> sum = 0;
    for (int64_t j = range.begin; j < range.end; ++j) {
      if (!is_index(s.order[j], num_rows)) continue;
      sum += static_cast<Accumulator<T>>(feats[static_cast<int64_t>(s.order[j]) * channels + c]);
    }
    mean[index] = static_cast<T>(sum / static_cast<Accumulator<T>>(s.divisor(i)));
  }
}

// As above; a row is in one segment at the most, so it has one writer.
template <class T>
__global__ void segment_mean_backward_kernel(const T* grad, MeanSegments s, int64_t num_rows, int64_t channels, T* feats_grad) {
  PCPERC_GRID_LOOP(index, s.size * channels) {
    const int64_t i = index / channels, c = index % channels;
    const EntryRange range = s.entries(i);
    const T share = static_cast<T>(static_cast<Accumulator<T>>(grad[index]) / static_cast<Accumulator<T>>(s.divisor(i)));
    for (int64_t j = range.begin; j < range.end; ++j) {
      if (is_index(s.order[j], num_rows)) feats_grad[static_cast<int64_t>(s.order[j]) * channels + c] = share;
    }
  }
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

Tensor segment_mean(const Tensor& feats, const Tensor& order, const Tensor& starts, const Tensor& counts) {
  const MeanSegments s = check_mean_segments(feats, order, starts, counts, "segment_mean");
  check_one_device("segment_mean", {feats, order, starts, counts});
  const int64_t channels = feats.size(1);
  const CudaScope scope(feats);
  const Tensor out = empty_on(feats, {s.size, channels}, feats.scalar_type());
  if (out.numel() == 0) return out;
  dispatch_float(feats.scalar_type(), "segment_mean", [&](auto zero) {
    using T = decltype(zero);
    segment_mean_kernel<<<grid_size(out.numel()), kThreads, 0, scope.stream()>>>(
        feats.const_data_ptr<T>(), s, feats.size(0), channels, out.mutable_data_ptr<T>());
  });
  PCPERC_LAUNCH_CHECK();
  return out;
}

Tensor segment_mean_backward(const Tensor& grad, const Tensor& order, const Tensor& starts, const Tensor& counts,
                             int64_t num_rows) {
  const MeanSegments s = check_mean_segments(grad, order, starts, counts, "segment_mean_backward");
  check_mean_grad(grad, s, "segment_mean_backward");
  check_one_device("segment_mean_backward", {grad, order, starts, counts});
  const int64_t channels = grad.size(1);
  const CudaScope scope(grad);
  const Tensor out = torch::stable::new_zeros(grad, {num_rows, channels});
  if (grad.numel() == 0 || out.numel() == 0) return out;
  dispatch_float(grad.scalar_type(), "segment_mean_backward", [&](auto zero) {
    using T = decltype(zero);
    segment_mean_backward_kernel<<<grid_size(grad.numel()), kThreads, 0, scope.stream()>>>(
        grad.const_data_ptr<T>(), s, num_rows, channels, out.mutable_data_ptr<T>());
  });
  PCPERC_LAUNCH_CHECK();
  return out;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("voxel_keys", TORCH_BOX(&pcperc::voxel_keys));
  m.impl("voxel_coords", TORCH_BOX(&pcperc::voxel_coords));
  m.impl("segment_mean", TORCH_BOX(&pcperc::segment_mean));
  m.impl("segment_mean_backward", TORCH_BOX(&pcperc::segment_mean_backward));
}
