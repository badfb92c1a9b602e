// SPDX-License-Identifier: Apache-2.0
// Group rows by an integer key: one stable radix sort, one scan over the first rows of groups.
#include <torch/csrc/stable/library.h>

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <tuple>

#include "common/launch.cuh"

namespace pcperc {
namespace {

constexpr uint64_t kNoKey = ~uint64_t{0};  // sorts behind every key, also when only its low bits are looked at

__global__ void prepare_kernel(const int64_t* keys, int64_t num_keys, int64_t n, uint64_t* sort_keys, int32_t* rows) {
  PCPERC_GRID_LOOP(i, n) {
    sort_keys[i] = keys[i] >= 0 && keys[i] < num_keys ? static_cast<uint64_t>(keys[i]) : kNoKey;
    rows[i] = static_cast<int32_t>(i);
  }
}

__global__ void find_heads_kernel(const uint64_t* keys, int64_t n, int32_t* heads) {
  PCPERC_GRID_LOOP(j, n) { heads[j] = keys[j] != kNoKey && (j == 0 || keys[j] != keys[j - 1]); }
}

// totals (zero before) = [rows with a key, groups]: written by the one thread at the last such row.
__global__ void find_totals_kernel(const uint64_t* keys, const int32_t* group_plus_one, int64_t n, int32_t* totals) {
  PCPERC_GRID_LOOP(j, n) {
    if (keys[j] != kNoKey && (j == n - 1 || keys[j + 1] == kNoKey)) {
      totals[0] = static_cast<int32_t>(j + 1);
      totals[1] = group_plus_one[j];
    }
  }
}

// One thread a sorted row; the first row of a group writes its start and key. Every element has one writer.
__global__ void write_groups_kernel(const uint64_t* keys, const int32_t* rows, const int32_t* group_plus_one, int64_t n,
                                    int32_t num_kept, int32_t num_groups, int32_t* starts, int64_t* values,
                                    int64_t* inverse) {
  PCPERC_GRID_LOOP(j, n) {
    const bool kept = j < num_kept;
    const int32_t group = kept ? group_plus_one[j] - 1 : -1;
    inverse[rows[j]] = group;
    if (kept && (j == 0 || keys[j] != keys[j - 1])) {
      starts[group] = static_cast<int32_t>(j);
      values[group] = static_cast<int64_t>(keys[j]);
    }
    if (j == 0) starts[num_groups] = num_kept;
  }
}

std::tuple<Tensor, Tensor, Tensor, Tensor> group_by_key(const Tensor& keys, int64_t num_keys) {
  check_dtype(keys, ScalarType::Long, "group_by_key", "keys");
  STD_TORCH_CHECK(keys.dim() == 1 && keys.is_contiguous(), "group_by_key: keys must be contiguous, 1 dimension");
  const int64_t n = keys.numel();
  STD_TORCH_CHECK(n < INT32_MAX, "group_by_key: at most 2^31 - 2 rows, got ", n);
  const CudaScope scope(keys);
  if (n == 0) {
    return {empty_on(keys, {0}, ScalarType::Int), torch::stable::new_zeros(keys, {1}, ScalarType::Int),
            empty_on(keys, {0}, ScalarType::Long), empty_on(keys, {0}, ScalarType::Long)};
  }

  const Tensor unsorted_keys = empty_on(keys, {n}, ScalarType::Long), sorted_keys = empty_on(keys, {n}, ScalarType::Long);
  const Tensor unsorted_rows = empty_on(keys, {n}, ScalarType::Int);
  Tensor order = empty_on(keys, {n}, ScalarType::Int);
  uint64_t* keys_in = reinterpret_cast<uint64_t*>(unsorted_keys.mutable_data_ptr<int64_t>());
  uint64_t* keys_out = reinterpret_cast<uint64_t*>(sorted_keys.mutable_data_ptr<int64_t>());
  int32_t* rows_in = unsorted_rows.mutable_data_ptr<int32_t>();
  int32_t* rows_out = order.mutable_data_ptr<int32_t>();
  prepare_kernel<<<grid_size(n), kThreads, 0, scope.stream()>>>(keys.const_data_ptr<int64_t>(), num_keys, n, keys_in, rows_in);
  PCPERC_LAUNCH_CHECK();
  // Enough bits for num_keys itself, so that the low bits of kNoKey, all ones, exceed those of every key.
  const int bits = significant_bits(num_keys), count = static_cast<int>(n);
  with_workspace(keys, [&](void* workspace, size_t& bytes) {
    return cub::DeviceRadixSort::SortPairs(workspace, bytes, keys_in, keys_out, rows_in, rows_out, count, 0, bits,
                                           scope.stream());
  });

  const Tensor heads = empty_on(keys, {n}, ScalarType::Int), group_plus_one = empty_on(keys, {n}, ScalarType::Int);
  const Tensor totals = torch::stable::new_zeros(keys, {2}, ScalarType::Int);
  int32_t* head_data = heads.mutable_data_ptr<int32_t>();
  int32_t* group_data = group_plus_one.mutable_data_ptr<int32_t>();
  find_heads_kernel<<<grid_size(n), kThreads, 0, scope.stream()>>>(keys_out, n, head_data);
  PCPERC_LAUNCH_CHECK();
  with_workspace(keys, [&](void* workspace, size_t& bytes) {
    return cub::DeviceScan::InclusiveSum(workspace, bytes, head_data, group_data, count, scope.stream());
  });
  find_totals_kernel<<<grid_size(n), kThreads, 0, scope.stream()>>>(keys_out, group_data, n, totals.mutable_data_ptr<int32_t>());
  PCPERC_LAUNCH_CHECK();
  int32_t found[2] = {0, 0};
  copy_to_host(found, totals.const_data_ptr<int32_t>(), 2, scope.stream());

  const Tensor starts = empty_on(keys, {found[1] + 1}, ScalarType::Int);
  const Tensor values = empty_on(keys, {found[1]}, ScalarType::Long), inverse = empty_on(keys, {n}, ScalarType::Long);
  write_groups_kernel<<<grid_size(n), kThreads, 0, scope.stream()>>>(
      keys_out, rows_out, group_data, n, found[0], found[1], starts.mutable_data_ptr<int32_t>(),
      values.mutable_data_ptr<int64_t>(), inverse.mutable_data_ptr<int64_t>());
  PCPERC_LAUNCH_CHECK();
  return {torch::stable::narrow(order, 0, 0, found[0]), starts, values, inverse};
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) { m.impl("group_by_key", TORCH_BOX(&pcperc::group_by_key)); }
