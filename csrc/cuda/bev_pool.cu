// SPDX-License-Identifier: Apache-2.0
// out[target[i]] = sum over the entries j of segment i of weight[point[j]] * feats[source[j]], and the gradient of weight.
//
// No atomics: a segment is summed by one thread a channel, in the order of its entries. Neighbouring threads take
// neighbouring channels of the same segment, so rows of features are read in full cache lines.
#include "bev_pool.h"

#include <torch/csrc/stable/library.h>

#include "common/dispatch.h"
#include "common/launch.cuh"

namespace pcperc {
namespace {

template <class T>
__global__ void bev_pool_kernel(const T* feats, const T* weight, PoolSegments s, int64_t channels, int64_t num_sources,
                                int64_t num_weights, int64_t num_targets, T* out) {
  PCPERC_GRID_LOOP(index, s.num_segments * channels) {
    const int64_t i = index / channels, c = index % channels;
    const int64_t target = s.target[i];
    if (!is_index(target, num_targets)) continue;
    const EntryRange range = s.entries(i);
    Accumulator<T> sum = 0;
#pragma unroll 4
    for (int64_t j = range.begin; j < range.end; ++j) {
      const int32_t source = s.source[j];
      if (!is_index(source, num_sources) || (weight && !is_index(s.point[j], num_weights))) continue;
      const Accumulator<T> value = static_cast<Accumulator<T>>(feats[source * channels + c]);
      sum += weight ? static_cast<Accumulator<T>>(weight[s.point[j]]) * value : value;
    }
    out[target * channels + c] = static_cast<T>(sum);
  }
}

// One warp a segment (a row of feats); for each entry its lanes share the channels of the dot product of the row with the
// entry's cell and add up in a fixed tree. A point is in one segment at the most, so it has one writer.
template <class T>
__global__ void weight_grad_kernel(const T* grad, const T* feats, PoolSegments s, int64_t channels, int64_t num_rows,
                                   int64_t num_cells, int64_t num_points, T* weight_grad) {
  const int lane = threadIdx.x % 32;
  const int64_t num_warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / 32);
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x / 32) + threadIdx.x / 32; i < s.num_segments; i += num_warps) {
    const int64_t row = s.target[i];
    if (!is_index(row, num_rows)) continue;
    const EntryRange range = s.entries(i);
    for (int64_t j = range.begin; j < range.end; ++j) {
      const int64_t cell = s.source[j];
      if (!is_index(cell, num_cells) || !is_index(s.point[j], num_points)) continue;
      Accumulator<T> dot = 0;
      for (int64_t c = lane; c < channels; c += 32) {
        dot += static_cast<Accumulator<T>>(feats[row * channels + c]) * static_cast<Accumulator<T>>(grad[cell * channels + c]);
      }
      for (int offset = 16; offset > 0; offset /= 2) dot += __shfl_down_sync(kAllLanes, dot, offset);
      if (lane == 0) weight_grad[s.point[j]] = static_cast<T>(dot);
    }
  }
}

Tensor bev_pool(const Tensor& feats, const std::optional<Tensor>& weight, const std::vector<Tensor>& segments,
                const std::vector<Tensor>& /* backward_segments */, int64_t num_targets) {
  const PoolSegments s = check_segments(feats, weight, segments, "bev_pool");
  check_one_device("bev_pool", {feats, segments[0], segments[1], segments[2], segments[3], weight.value_or(feats)});
  const int64_t channels = feats.size(1), count = s.num_segments * channels;
  const CudaScope scope(feats);
  const Tensor out = torch::stable::new_zeros(feats, {num_targets, channels});
  if (count == 0 || out.numel() == 0) return out;
  dispatch_float(feats.scalar_type(), "bev_pool", [&](auto zero) {
    using T = decltype(zero);
    bev_pool_kernel<<<grid_size(count), kThreads, 0, scope.stream()>>>(
        feats.const_data_ptr<T>(), weight ? weight->const_data_ptr<T>() : nullptr, s,
        channels, feats.size(0), weight ? weight->size(0) : 0, num_targets, out.mutable_data_ptr<T>());
  });
  PCPERC_LAUNCH_CHECK();
  return out;
}

Tensor bev_pool_weight_grad(const Tensor& grad, const Tensor& feats, const std::vector<Tensor>& backward_segments,
                            int64_t num_points) {
  const PoolSegments s = check_segments(grad, std::nullopt, backward_segments, "bev_pool_weight_grad");
  check_weight_grad(grad, feats);
  check_one_device("bev_pool_weight_grad", {grad, feats, backward_segments[0], backward_segments[1], backward_segments[2],
                                            backward_segments[3]});
  const CudaScope scope(grad);
  const Tensor out = torch::stable::new_zeros(grad, {num_points});
  if (s.num_segments == 0) return out;
  dispatch_float(feats.scalar_type(), "bev_pool_weight_grad", [&](auto zero) {
    using T = decltype(zero);
    weight_grad_kernel<<<grid_size(s.num_segments * 32), kThreads, 0, scope.stream()>>>(
        grad.const_data_ptr<T>(), feats.const_data_ptr<T>(), s, feats.size(1),
        feats.size(0), grad.size(0), num_points, out.mutable_data_ptr<T>());
  });
  PCPERC_LAUNCH_CHECK();
  return out;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("bev_pool", TORCH_BOX(&pcperc::bev_pool));
  m.impl("bev_pool_weight_grad", TORCH_BOX(&pcperc::bev_pool_weight_grad));
}
