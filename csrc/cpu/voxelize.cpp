// SPDX-License-Identifier: Apache-2.0
// Points to voxel keys, keys to coords, and the mean of the points of a voxel.
#include "voxelize.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/Dispatch_v2.h>

#include <optional>
#include <type_traits>
#include <vector>

#include "common/check.h"
#include "common/parallel.h"

namespace pcperc {
namespace {

constexpr int64_t kGrain = 4096;

template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;

Tensor voxel_keys(const Tensor& points, const std::optional<Tensor>& batch_index, const std::vector<double>& lower,
                  const std::vector<double>& upper, const std::vector<double>& cell_size,
                  const std::vector<int64_t>& grid_shape, int64_t batch_size) {
  check_matrix(points, "voxel_keys", "points");
  STD_TORCH_CHECK(points.size(1) >= 3, "voxel_keys: points must have at least 3 columns, got ", points.size(1));
  const VoxelGrid grid = make_voxel_grid(lower, upper, cell_size, grid_shape, batch_size);
  const int64_t n = points.size(0), stride = points.size(1);
  const int32_t* batch = nullptr;
  if (batch_index) {
    check_dtype(*batch_index, ScalarType::Int, "voxel_keys", "batch_index");
    STD_TORCH_CHECK(batch_index->numel() == n, "voxel_keys: batch_index must have one value a point");
    batch = batch_index->const_data_ptr<int32_t>();
  }
  Tensor keys = torch::stable::new_empty(points, {n}, ScalarType::Long);
  int64_t* out = keys.mutable_data_ptr<int64_t>();
  THO_DISPATCH_V2(points.scalar_type(), "voxel_keys", AT_WRAP([&] {
                    const scalar_t* p = points.const_data_ptr<scalar_t>();
                    parallel_rows(n, kGrain, [&](int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i) {
                        const scalar_t* row = p + i * stride;
                        out[i] = voxel_key(static_cast<float>(row[0]), static_cast<float>(row[1]),
                                           static_cast<float>(row[2]), batch ? batch[i] : 0, grid);
                      }
                    });
                  }),
                  AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
  return keys;
}

Tensor voxel_coords(const Tensor& keys, const std::vector<int64_t>& grid_shape) {
  check_dtype(keys, ScalarType::Long, "voxel_coords", "keys");
  STD_TORCH_CHECK(grid_shape.size() == 3, "voxel_coords: grid_shape must have 3 values");
  const int64_t m = keys.numel();
  Tensor coords = torch::stable::new_empty(keys, {m, 4}, ScalarType::Int);
  const int64_t* key = keys.const_data_ptr<int64_t>();
  Coord* out = reinterpret_cast<Coord*>(coords.mutable_data_ptr<int32_t>());
  for (int64_t i = 0; i < m; ++i) out[i] = voxel_key_to_coord(key[i], grid_shape[0], grid_shape[1], grid_shape[2]);
  return coords;
}

void check_segments(const Tensor& order, const Tensor& starts, const Tensor& counts) {
  check_dtype(order, ScalarType::Int, "segment_mean", "order");
  check_dtype(starts, ScalarType::Int, "segment_mean", "starts");
  check_dtype(counts, ScalarType::Int, "segment_mean", "counts");
  STD_TORCH_CHECK(starts.numel() == counts.numel(), "segment_mean: starts and counts must have the same length");
}

Tensor segment_mean(const Tensor& feats, const Tensor& order, const Tensor& starts, const Tensor& counts) {
  check_matrix(feats, "segment_mean", "feats");
  check_segments(order, starts, counts);
  const int64_t m = starts.numel(), channels = feats.size(1);
  Tensor out = torch::stable::new_empty(feats, {m, channels});
  const int32_t* row_of = order.const_data_ptr<int32_t>();
  const int32_t* start = starts.const_data_ptr<int32_t>();
  const int32_t* count = counts.const_data_ptr<int32_t>();
  THO_DISPATCH_V2(feats.scalar_type(), "segment_mean", AT_WRAP([&] {
                    const scalar_t* in = feats.const_data_ptr<scalar_t>();
                    scalar_t* mean = out.mutable_data_ptr<scalar_t>();
                    parallel_rows(m, kGrain, [&](int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i) {
                        for (int64_t c = 0; c < channels; ++c) {
                          Accumulator<scalar_t> sum = 0;
                          for (int32_t j = start[i]; j < start[i] + count[i]; ++j) {
                            sum += static_cast<Accumulator<scalar_t>>(in[row_of[j] * channels + c]);
                          }
                          mean[i * channels + c] = static_cast<scalar_t>(sum / static_cast<Accumulator<scalar_t>>(count[i]));
                        }
                      }
                    });
                  }),
                  AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
  return out;
}

Tensor segment_mean_backward(const Tensor& grad, const Tensor& order, const Tensor& starts, const Tensor& counts,
                             int64_t num_rows) {
  check_matrix(grad, "segment_mean_backward", "grad");
  check_segments(order, starts, counts);
  const int64_t m = starts.numel(), channels = grad.size(1);
  Tensor out = torch::stable::new_zeros(grad, {num_rows, channels});
  const int32_t* row_of = order.const_data_ptr<int32_t>();
  const int32_t* start = starts.const_data_ptr<int32_t>();
  const int32_t* count = counts.const_data_ptr<int32_t>();
  THO_DISPATCH_V2(grad.scalar_type(), "segment_mean_backward", AT_WRAP([&] {
                    using acc_t = Accumulator<scalar_t>;
                    const scalar_t* g = grad.const_data_ptr<scalar_t>();
                    scalar_t* d = out.mutable_data_ptr<scalar_t>();
                    parallel_rows(m, kGrain, [&](int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i) {
                        for (int32_t j = start[i]; j < start[i] + count[i]; ++j) {
                          for (int64_t c = 0; c < channels; ++c) {
                            d[row_of[j] * channels + c] = static_cast<scalar_t>(
                                static_cast<acc_t>(g[i * channels + c]) / static_cast<acc_t>(count[i]));
                          }
                        }
                      }
                    });
                  }),
                  AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
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
