// SPDX-License-Identifier: Apache-2.0
// Rows grouped by the number of their segment: one stable radix sort of the bits that the numbers have, and a search for the
// start of each segment.
#include "make_segments.h"

#include <torch/csrc/stable/library.h>

#include <cub/device/device_radix_sort.cuh>
#include <tuple>

#include "common/launch.cuh"

namespace pcperc {
namespace {

template <class T>
__global__ void prepare_kernel(const T* index, int64_t count, int64_t num_segments, int32_t* clamped, uint32_t* keys,
                               int32_t* rows) {
  PCPERC_GRID_LOOP(i, count) {
    clamped[i] = clamped_segment(index[i], num_segments);
    keys[i] = static_cast<uint32_t>(clamped[i] + 1);
    rows[i] = static_cast<int32_t>(i);
  }
}

// starts[s]: how many sorted keys are below 1 + s.
__global__ void find_starts_kernel(const uint32_t* keys, int64_t count, int64_t num_segments, int32_t* starts) {
  PCPERC_GRID_LOOP(s, num_segments + 1) {
    int64_t low = 0, high = count;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (keys[middle] <= s) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    starts[s] = static_cast<int32_t>(low);
  }
}

std::tuple<Tensor, Tensor, Tensor> make_segments(Tensor index, int64_t num_segments) {
  const CudaScope scope(index);
  const cudaStream_t stream = scope.stream();
  index = as_contiguous(index);
  check_make_segments(index, num_segments);
  const int64_t count = index.numel();
  const Tensor clamped = empty_on(index, {count}, ScalarType::Int), order = empty_on(index, {count}, ScalarType::Int);
  const Tensor starts = empty_on(index, {num_segments + 1}, ScalarType::Int);
  const Tensor rows = empty_on(index, {count}, ScalarType::Int);
  const Tensor unsorted = empty_on(index, {count}, ScalarType::Int), sorted = empty_on(index, {count}, ScalarType::Int);
  auto* const keys = reinterpret_cast<uint32_t*>(data_of<int32_t>(unsorted));
  auto* const sorted_keys = reinterpret_cast<uint32_t*>(data_of<int32_t>(sorted));
  if (count > 0) {
    const auto prepare = [&](const auto* from) {
      prepare_kernel<<<grid_size(count), kThreads, 0, stream>>>(from, count, num_segments, data_of<int32_t>(clamped), keys,
                                                               data_of<int32_t>(rows));
    };
    if (index.scalar_type() == ScalarType::Int) {
      prepare(index.const_data_ptr<int32_t>());
    } else {
      prepare(index.const_data_ptr<int64_t>());
    }
    PCPERC_LAUNCH_CHECK();
    const int bits = significant_bits(num_segments + 1);
    with_workspace(index, [&](void* workspace, size_t& bytes) {
      return cub::DeviceRadixSort::SortPairs(workspace, bytes, keys, sorted_keys, data_of<int32_t>(rows),
                                             data_of<int32_t>(order), static_cast<int>(count), 0, bits, stream);
    });
  }
  find_starts_kernel<<<grid_size(num_segments + 1), kThreads, 0, stream>>>(sorted_keys, count, num_segments,
                                                                         data_of<int32_t>(starts));
  PCPERC_LAUNCH_CHECK();
  return {clamped, order, starts};
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) { m.impl("make_segments", TORCH_BOX(&pcperc::make_segments)); }
