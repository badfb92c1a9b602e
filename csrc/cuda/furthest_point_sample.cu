// SPDX-License-Identifier: Apache-2.0
// Furthest point sampling: a block for each cloud. Each thread keeps its own entries; the furthest of all threads' entries, and
// of equally far ones the first, is the next sample, so the order of the threads does not matter.
#include <torch/csrc/stable/library.h>

#include <limits>

#include "common/launch.cuh"
#include "neighbors.h"

namespace pcperc {
namespace {

constexpr int kSamplers = 512;  // threads of a block, a power of two

// The better of two candidates: the larger distance, then the earlier entry. An entry of -1 is none and has distance -1.
template <class T>
struct Candidate {
  T distance;
  int64_t entry;

  __device__ bool is_better_than(const Candidate& other) const {
    return distance > other.distance || (distance == other.distance && entry >= 0 && (other.entry < 0 || entry < other.entry));
  }
};

// What all threads of the block found best; every thread must call it.
template <class T>
__device__ Candidate<T> best_of_block(Candidate<T> mine, T* distances, int64_t* entries) {
  distances[threadIdx.x] = mine.distance;
  entries[threadIdx.x] = mine.entry;
  __syncthreads();
  for (int half = kSamplers / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) {
      const Candidate<T> other{distances[threadIdx.x + half], entries[threadIdx.x + half]};
      if (other.is_better_than({distances[threadIdx.x], entries[threadIdx.x]})) {
        distances[threadIdx.x] = other.distance;
        entries[threadIdx.x] = other.entry;
      }
    }
    __syncthreads();
  }
  const Candidate<T> best{distances[0], entries[0]};
  __syncthreads();  // the next call writes these places
  return best;
}

// nearest[entry] is the squared distance to the nearest sample, -1 for one that is a sample itself or no point.
template <class T>
__global__ void __launch_bounds__(kSamplers) furthest_point_sample_kernel(Clouds<T> clouds, int64_t num_samples, T* nearest,
                                                                          int32_t* samples) {
  __shared__ T distances[kSamplers];
  __shared__ int64_t entries[kSamplers];
  for (int64_t cloud = blockIdx.x; cloud < clouds.count; cloud += gridDim.x) {
    int32_t* out = samples + cloud * num_samples;
    const EntryRange range = clouds.entries(cloud);
    Candidate<T> mine{T{-1}, -1};
    for (int64_t entry = range.begin + threadIdx.x; entry < range.end; entry += kSamplers) {
      nearest[entry] = clouds.row(entry) >= 0 ? std::numeric_limits<T>::infinity() : T{-1};
      if (mine.entry < 0 && nearest[entry] >= 0) mine = {nearest[entry], entry};
    }
    Candidate<T> next = best_of_block(mine, distances, entries);
    int64_t taken = 0;
    for (; taken < num_samples && next.entry >= 0; ++taken) {  // the same for all threads
      const int32_t row = clouds.order[next.entry];
      if (threadIdx.x == 0) out[taken] = row;
      const T* last = clouds.points + 3 * int64_t{row};
      mine = {T{-1}, -1};
      for (int64_t entry = range.begin + threadIdx.x; entry < range.end; entry += kSamplers) {
        if (entry == next.entry) nearest[entry] = T{-1};
        if (nearest[entry] < 0) continue;
        const T distance = squared_distance(clouds.points + 3 * int64_t{clouds.order[entry]}, last);
        if (distance < nearest[entry]) nearest[entry] = distance;
        if (nearest[entry] > mine.distance) mine = {nearest[entry], entry};
      }
      next = best_of_block(mine, distances, entries);
    }
    for (int64_t place = taken + threadIdx.x; place < num_samples; place += kSamplers) out[place] = -1;
  }
}

Tensor furthest_point_sample(const Tensor& points, const Tensor& order, const Tensor& starts, int64_t num_samples) {
  check_clouds("furthest_point_sample", points, order, starts);
  check_one_device("furthest_point_sample", {points, order, starts});
  STD_TORCH_CHECK(num_samples >= 0, "furthest_point_sample: num_samples must be >= 0, got ", num_samples);
  const int64_t count = starts.numel() - 1;
  const CudaScope scope(points);
  const Tensor samples = empty_on(points, {count, num_samples}, ScalarType::Int);
  if (samples.numel() == 0) return samples;
  const Tensor nearest = empty_on(points, {points.size(0)}, points.scalar_type());
  dispatch_positions(points.scalar_type(), "furthest_point_sample", [&](auto zero) {
    using T = decltype(zero);
    furthest_point_sample_kernel<<<grid_size(count, 1), kSamplers, 0, scope.stream()>>>(
        clouds_of<T>(points, order, starts), num_samples, nearest.mutable_data_ptr<T>(), samples.mutable_data_ptr<int32_t>());
  });
  PCPERC_LAUNCH_CHECK();
  return samples;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) { m.impl("furthest_point_sample", TORCH_BOX(&pcperc::furthest_point_sample)); }
