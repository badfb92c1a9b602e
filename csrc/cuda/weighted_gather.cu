// SPDX-License-Identifier: Apache-2.0
// out[p] = sum over j of weights[p, j] * feats[rows[p, j]]; its adjoint, along rows grouped by value; the gradient of weights.
//
// No atomics: one thread an output value, which adds up in order; for the gradient of weights one warp an entry, whose lanes
// share the channels and add up in a fixed tree.
#include "weighted_gather.h"

#include <torch/csrc/stable/library.h>

#include <optional>

#include "common/dispatch.h"
#include "common/launch.cuh"

namespace pcperc {
namespace {

template <class T>
__global__ void gather_kernel(const T* in, const int32_t* rows, const Accumulator<T>* weights, GatherSizes s, T* out) {
  using A = Accumulator<T>;
  PCPERC_CHANNEL_LOOP(p, c, s.num_points, s.channels) {
    A sum = 0;
#pragma unroll 4
    for (int64_t e = p * s.per_point; e < (p + 1) * s.per_point; ++e) {
      if (is_index(rows[e], s.num_rows)) sum += weights[e] * static_cast<A>(in[rows[e] * s.channels + c]);
    }
    out[p * s.channels + c] = static_cast<T>(sum);
  }
}

template <class T>
__global__ void scatter_kernel(const T* grad, const Accumulator<T>* weights, const int32_t* order, const int32_t* starts,
                               GatherSizes s, T* out) {
  using A = Accumulator<T>;
  const int64_t num_entries = s.num_points * s.per_point;
  PCPERC_CHANNEL_LOOP(m, c, s.num_rows, s.channels) {
    const EntryRange range = entries_within(starts[m], starts[m + 1], num_entries);
    A sum = 0;
#pragma unroll 4
    for (int64_t j = range.begin; j < range.end; ++j) {
      const int64_t e = order[j];
      if (is_index(e, num_entries)) sum += weights[e] * static_cast<A>(grad[e / s.per_point * s.channels + c]);
    }
    out[m * s.channels + c] = static_cast<T>(sum);
  }
}

template <class T>
__global__ void dot_kernel(const T* grad, const T* in, const int32_t* rows, GatherSizes s, Accumulator<T>* out) {
  using A = Accumulator<T>;
  const int lane = threadIdx.x % 32;
  const int64_t num_warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / 32);
  for (int64_t e = blockIdx.x * static_cast<int64_t>(blockDim.x / 32) + threadIdx.x / 32; e < s.num_points * s.per_point;
       e += num_warps) {
    A sum = 0;
    if (is_index(rows[e], s.num_rows)) {
      const T *a = grad + e / s.per_point * s.channels, *b = in + rows[e] * s.channels;
      for (int64_t c = lane; c < s.channels; c += 32) sum += static_cast<A>(a[c]) * static_cast<A>(b[c]);
    }
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffffu, sum, offset);
    if (lane == 0) out[e] = sum;
  }
}

Tensor weighted_gather(Tensor feats, Tensor rows, Tensor weights, const std::optional<Tensor>& /* order */,
                       const std::optional<Tensor>& /* starts */) {
  constexpr const char* op = "weighted_gather";
  const CudaScope scope(feats);
  feats = as_contiguous(feats), rows = as_contiguous(rows);
  weights = as_contiguous(weights);
  const GatherSizes s = check_gather(op, rows, feats, "feats");
  check_weights(op, weights, s, feats.scalar_type());
  check_one_device(op, {feats, rows, weights});
  const Tensor result = empty_on(feats, {s.num_points, s.channels}, feats.scalar_type());
  if (result.numel() == 0) return result;
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const ChannelLaunch launch(s.num_points, s.channels);
    gather_kernel<<<launch.grid, launch.block, 0, scope.stream()>>>(
        feats.const_data_ptr<T>(), rows.const_data_ptr<int32_t>(), weights.const_data_ptr<Accumulator<T>>(), s,
        result.mutable_data_ptr<T>());
  });
  PCPERC_LAUNCH_CHECK();
  return result;
}

Tensor weighted_scatter(Tensor grad, Tensor rows, Tensor weights, const Tensor& order, const Tensor& starts) {
  constexpr const char* op = "weighted_scatter";
  const CudaScope scope(grad);
  grad = as_contiguous(grad), rows = as_contiguous(rows);
  weights = as_contiguous(weights);
  const GatherSizes s = check_scatter(op, grad, rows, order, starts);
  check_weights(op, weights, s, grad.scalar_type());
  check_one_device(op, {grad, rows, weights, order, starts});
  const Tensor result = empty_on(grad, {s.num_rows, s.channels}, grad.scalar_type());
  if (result.numel() == 0) return result;
  dispatch_float(grad.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const ChannelLaunch launch(s.num_rows, s.channels);
    scatter_kernel<<<launch.grid, launch.block, 0, scope.stream()>>>(
        grad.const_data_ptr<T>(), weights.const_data_ptr<Accumulator<T>>(), order.const_data_ptr<int32_t>(),
        starts.const_data_ptr<int32_t>(), s, result.mutable_data_ptr<T>());
  });
  PCPERC_LAUNCH_CHECK();
  return result;
}

Tensor weighted_gather_dot(Tensor grad, Tensor feats, Tensor rows, const std::optional<Tensor>& /* order */,
                           const std::optional<Tensor>& /* starts */) {
  constexpr const char* op = "weighted_gather_dot";
  const CudaScope scope(feats);
  grad = as_contiguous(grad), feats = as_contiguous(feats);
  rows = as_contiguous(rows);
  const GatherSizes s = check_gather(op, rows, feats, "feats");
  check_rows_of(op, "grad", grad, s.num_points, s.channels);
  check_dtype(grad, feats.scalar_type(), op, "grad");
  check_one_device(op, {feats, grad, rows});
  const Tensor result = empty_on(feats, {s.num_points, s.per_point}, accumulator_dtype(feats.scalar_type()));
  if (result.numel() == 0) return result;
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    dot_kernel<<<grid_size(result.numel() * 32), kThreads, 0, scope.stream()>>>(
        grad.const_data_ptr<T>(), feats.const_data_ptr<T>(), rows.const_data_ptr<int32_t>(), s,
        result.mutable_data_ptr<Accumulator<T>>());
  });
  PCPERC_LAUNCH_CHECK();
  return result;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("weighted_gather", TORCH_BOX(&pcperc::weighted_gather));
  m.impl("weighted_scatter", TORCH_BOX(&pcperc::weighted_scatter));
  m.impl("weighted_gather_dot", TORCH_BOX(&pcperc::weighted_gather_dot));
}
