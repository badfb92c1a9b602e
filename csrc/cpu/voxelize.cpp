// SPDX-License-Identifier: Apache-2.0
// Points to voxel keys, keys to coords, and the mean of the points of a voxel.
#include "voxelize.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <vector>

#include "common/dispatch.h"
#include "common/parallel.h"
#include "segment.h"

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

Tensor segment_mean(const Tensor& feats, const Tensor& order, const Tensor& starts, const Tensor& counts) {
  const MeanSegments s = check_mean_segments(feats, order, starts, counts, "segment_mean");
  const int64_t channels = feats.size(1), num_rows = feats.size(0);
  Tensor out = torch::stable::new_empty(feats, {s.size, channels});
  dispatch_float(feats.scalar_type(), "segment_mean", [&](auto zero) {
    using T = decltype(zero);
    const T* in = feats.const_data_ptr<T>();
    T* mean = out.mutable_data_ptr<T>();
    parallel_rows(s.size, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const EntryRange range = s.entries(i);
        for (int64_t c = 0; c < channels; ++c) {
          Accumulator<T> sum = 0;
          for (int64_t j = range.begin; j < range.end; ++j) {
            if (!is_index(s.order[j], num_rows)) continue;
            sum += static_cast<Accumulator<T>>(in[static_cast<int64_t>(s.order[j]) * channels + c]);
          }
          mean[i * channels + c] = static_cast<T>(sum / static_cast<Accumulator<T>>(s.divisor(i)));
        }
      }
    });
  });
  return out;
}

Tensor segment_mean_backward(const Tensor& grad, const Tensor& order, const Tensor& starts, const Tensor& counts,
                             int64_t num_rows) {
  const MeanSegments s = check_mean_segments(grad, order, starts, counts, "segment_mean_backward");
  check_mean_grad(grad, s, "segment_mean_backward");
  const int64_t channels = grad.size(1);
  Tensor out = torch::stable::new_zeros(grad, {num_rows, channels});
  dispatch_float(grad.scalar_type(), "segment_mean_backward", [&](auto zero) {
    using T = decltype(zero);
    const T* g = grad.const_data_ptr<T>();
    T* d = out.mutable_data_ptr<T>();
    parallel_rows(s.size, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const EntryRange range = s.entries(i);
        for (int64_t j = range.begin; j < range.end; ++j) {
          if (!is_index(s.order[j], num_rows)) continue;
          for (int64_t c = 0; c < channels; ++c) {
            d[static_cast<int64_t>(s.order[j]) * channels + c] = static_cast<T>(
                static_cast<Accumulator<T>>(g[i * channels + c]) / static_cast<Accumulator<T>>(s.divisor(i)));
          }
        }
      }
    });
  });
  return out;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("voxel_keys", TORCH_BOX(&pcperc::voxel_keys));
  m.impl("voxel_coords", TORCH_BOX(&pcperc::voxel_coords));
  m.impl("segment_mean", TORCH_BOX(&pcperc::segment_mean));
  m.impl("segment_mean_backward", TORCH_BOX(&pcperc::segment_mean_backward));
}
