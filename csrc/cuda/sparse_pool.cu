// SPDX-License-Identifier: Apache-2.0
// Pooling along a neighbour table: sums, means by counts of neighbours, maxima and the rows they came from.
//
// No atomics: one thread an output value, which walks the taps in order. Neighbouring threads take neighbouring channels of the
// same row, so rows of features are read in full cache lines and an entry of the table is read once a warp.
#include "sparse_pool.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/dispatch.h"
#include "common/launch.cuh"

namespace pcperc {
namespace {

__global__ void neighbor_counts_kernel(const int32_t* table, int64_t volume, int64_t num_out, int64_t num_in, int32_t* counts) {
  PCPERC_GRID_LOOP(m, num_out) {
    int32_t count = 0;
    for (int64_t tap = 0; tap < volume; ++tap) count += is_index(table[tap * num_out + m], num_in);
    counts[m] = count;
  }
}

template <class T>
__global__ void sum_pool_kernel(const T* in, const int32_t* table, PoolSizes s, const int32_t* in_count,
                                const int32_t* out_count, T* out) {
  using A = Accumulator<T>;
  PCPERC_CHANNEL_LOOP(m, c, s.num_out, s.channels) {
    A sum = 0;
#pragma unroll 4
    for (int64_t tap = 0; tap < s.volume; ++tap) {
      const int64_t n = table[tap * s.num_out + m];
      if (!is_index(n, s.num_in)) continue;
      const A value = static_cast<A>(in[n * s.channels + c]);
      sum += in_count ? value / static_cast<A>(divisor(in_count, n)) : value;
    }
    out[m * s.channels + c] = static_cast<T>(out_count ? sum / static_cast<A>(divisor(out_count, m)) : sum);
  }
}

template <class T>
__global__ void max_pool_kernel(const T* in, const int32_t* table, PoolSizes s, T* out, int32_t* rows) {
  using A = Accumulator<T>;
  PCPERC_CHANNEL_LOOP(m, c, s.num_out, s.channels) {
    A best = 0;
    int32_t best_row = -1;
#pragma unroll 4
    for (int64_t tap = 0; tap < s.volume; ++tap) {
      const int32_t n = table[tap * s.num_out + m];
      if (!is_index(n, s.num_in)) continue;
      const A value = static_cast<A>(in[n * s.channels + c]);
      if (best_row < 0 || replaces_max(value, best)) best = value, best_row = n;
    }
    out[m * s.channels + c] = static_cast<T>(best);
    rows[m * s.channels + c] = best_row;
  }
}

template <class T>
__global__ void max_unpool_kernel(const T* in, const int32_t* rows, const int32_t* table, PoolSizes s, T* out) {
  using A = Accumulator<T>;
  PCPERC_CHANNEL_LOOP(n, c, s.num_in, s.channels) {
    A sum = 0;
#pragma unroll 4
    for (int64_t tap = 0; tap < s.volume; ++tap) {
      const int64_t m = table[tap * s.num_in + n];
      if (is_index(m, s.num_out) && rows[m * s.channels + c] == n) sum += static_cast<A>(in[m * s.channels + c]);
    }
    out[n * s.channels + c] = static_cast<T>(sum);
  }
}

template <class T>
__global__ void max_take_kernel(const T* in, const int32_t* rows, PoolSizes s, T* out) {
  PCPERC_CHANNEL_LOOP(m, c, s.num_out, s.channels) {
    const int64_t i = m * s.channels + c;
    out[i] = is_index(rows[i], s.num_in) ? in[rows[i] * s.channels + c] : T(0.f);
  }
}

Tensor neighbor_counts(Tensor neighbors, int64_t num_inputs) {
  const CudaScope scope(neighbors);
  neighbors = as_contiguous(neighbors);
  check_int_matrix(neighbors, "neighbor_counts", "neighbors");
  const int64_t num_out = neighbors.size(1);
  const Tensor counts = empty_on(neighbors, {num_out}, ScalarType::Int);
  if (num_out == 0) return counts;
  neighbor_counts_kernel<<<grid_size(num_out), kThreads, 0, scope.stream()>>>(
      neighbors.const_data_ptr<int32_t>(), neighbors.size(0), num_out, num_inputs, counts.mutable_data_ptr<int32_t>());
  PCPERC_LAUNCH_CHECK();
  return counts;
}

Tensor sparse_sum_pool(Tensor feats, Tensor neighbors, const std::optional<Tensor>& /* reverse_neighbors */,
                       const std::optional<Tensor>& in_counts, const std::optional<Tensor>& out_counts) {
  constexpr const char* op = "sparse_sum_pool";
  const CudaScope scope(feats);
  feats = as_contiguous(feats), neighbors = as_contiguous(neighbors);
  const PoolSizes s = check_pool(op, feats, neighbors);
  const int32_t* in_count = check_counts(op, "in_counts", in_counts, s.num_in);
  const int32_t* out_count = check_counts(op, "out_counts", out_counts, s.num_out);
  check_one_device(op, {feats, neighbors, in_counts.value_or(feats), out_counts.value_or(feats)});
  const Tensor result = empty_on(feats, {s.num_out, s.channels}, feats.scalar_type());
  if (result.numel() == 0) return result;
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const ChannelLaunch launch(s.num_out, s.channels);
    sum_pool_kernel<<<launch.grid, launch.block, 0, scope.stream()>>>(feats.const_data_ptr<T>(),
                                                                     neighbors.const_data_ptr<int32_t>(), s, in_count,
                                                                     out_count, result.mutable_data_ptr<T>());
  });
  PCPERC_LAUNCH_CHECK();
  return result;
}

std::tuple<Tensor, Tensor> sparse_max_pool(Tensor feats, Tensor neighbors,
                                           const std::optional<Tensor>& /* reverse_neighbors */) {
  constexpr const char* op = "sparse_max_pool";
  const CudaScope scope(feats);
  feats = as_contiguous(feats), neighbors = as_contiguous(neighbors);
  const PoolSizes s = check_pool(op, feats, neighbors);
  check_one_device(op, {feats, neighbors});
  const Tensor values = empty_on(feats, {s.num_out, s.channels}, feats.scalar_type());
  const Tensor rows = empty_on(feats, {s.num_out, s.channels}, ScalarType::Int);
  if (values.numel() == 0) return {values, rows};
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const ChannelLaunch launch(s.num_out, s.channels);
    max_pool_kernel<<<launch.grid, launch.block, 0, scope.stream()>>>(
        feats.const_data_ptr<T>(), neighbors.const_data_ptr<int32_t>(), s, values.mutable_data_ptr<T>(),
        rows.mutable_data_ptr<int32_t>());
  });
  PCPERC_LAUNCH_CHECK();
  return {values, rows};
}

Tensor sparse_max_unpool(Tensor feats, Tensor rows, Tensor reverse_neighbors) {
  constexpr const char* op = "sparse_max_unpool";
  const CudaScope scope(feats);
  feats = as_contiguous(feats), rows = as_contiguous(rows);
  reverse_neighbors = as_contiguous(reverse_neighbors);
  const PoolSizes s = check_max_rows(op, rows, reverse_neighbors);
  check_feats(op, feats, s.num_out, s.channels);
  check_one_device(op, {feats, rows, reverse_neighbors});
  const Tensor result = empty_on(feats, {s.num_in, s.channels}, feats.scalar_type());
  if (result.numel() == 0) return result;
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const ChannelLaunch launch(s.num_in, s.channels);
    max_unpool_kernel<<<launch.grid, launch.block, 0, scope.stream()>>>(
        feats.const_data_ptr<T>(), rows.const_data_ptr<int32_t>(), reverse_neighbors.const_data_ptr<int32_t>(), s,
        result.mutable_data_ptr<T>());
  });
  PCPERC_LAUNCH_CHECK();
  return result;
}

Tensor sparse_max_take(Tensor feats, Tensor rows, Tensor reverse_neighbors) {
  constexpr const char* op = "sparse_max_take";
  const CudaScope scope(feats);
  feats = as_contiguous(feats), rows = as_contiguous(rows);
  reverse_neighbors = as_contiguous(reverse_neighbors);
  const PoolSizes s = check_max_rows(op, rows, reverse_neighbors);
  check_feats(op, feats, s.num_in, s.channels);
  check_one_device(op, {feats, rows, reverse_neighbors});
  const Tensor result = empty_on(feats, {s.num_out, s.channels}, feats.scalar_type());
  if (result.numel() == 0) return result;
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const ChannelLaunch launch(s.num_out, s.channels);
    max_take_kernel<<<launch.grid, launch.block, 0, scope.stream()>>>(
        feats.const_data_ptr<T>(), rows.const_data_ptr<int32_t>(), s, result.mutable_data_ptr<T>());
  });
  PCPERC_LAUNCH_CHECK();
  return result;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("neighbor_counts", TORCH_BOX(&pcperc::neighbor_counts));
  m.impl("sparse_sum_pool", TORCH_BOX(&pcperc::sparse_sum_pool));
  m.impl("sparse_max_pool", TORCH_BOX(&pcperc::sparse_max_pool));
  m.impl("sparse_max_unpool", TORCH_BOX(&pcperc::sparse_max_unpool));
  m.impl("sparse_max_take", TORCH_BOX(&pcperc::sparse_max_take));
}
