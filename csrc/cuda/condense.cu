// SPDX-License-Identifier: Apache-2.0
// Condensation of points: a block for each cloud. In each round its threads find the next 32 free candidates, its first warp which
// of them are near no other before them; these are centres, and all threads hand the free points out among them.
#include "condense.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/launch.cuh"

namespace pcperc {
namespace {

constexpr int kCondensers = 1024;  // threads of a block: a warp for each lane of a warp
static_assert(kCondensers == kWarp * kWarp);

// The candidates of a round, in the block's shared memory.
struct Round {
  unsigned votes[kWarp];      // of each warp: which of its entries are free candidates
  int32_t candidates[kWarp];  // rows
  int64_t left_over;          // the entry of the first candidate that found no place
  int num_centres;
  int slots[kWarp];  // which of the candidates are centres, in their order
};

// How far the search has come; the same in all threads.
struct Search {
  int64_t entry, end;
  int count;  // candidates of this round, 0 when there are no more
};

// The next free candidates, of as many entries at a time as there are threads. Between calls all threads must have met.
template <class T>
__device__ void find_candidates(const Condensation<T>& work, Round& round, Search& search) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  search.count = 0;
  while (search.count < kWarp && search.entry < search.end) {
    const int64_t entry = search.entry + threadIdx.x;
    const int32_t row = entry < search.end ? work.clouds.row_at(entry) : -1;
    const T beta = row >= 0 ? work.beta[row] : T{0};
    const bool is_behind = row >= 0 && beta <= work.min_beta;  // and so are all that follow
    const bool is_candidate = row >= 0 && beta > work.min_beta && work.centre[row] < 0;
    const unsigned votes = __ballot_sync(kAllLanes, is_candidate);
    if (lane == 0) round.votes[warp] = votes;
    const bool is_last = __syncthreads_or(is_behind);
    const int found = __popc(round.votes[lane]);
    const int before = __reduce_add_sync(kAllLanes, lane < warp ? found : 0);
    const int total = search.count + __reduce_add_sync(kAllLanes, found);
    const int place = search.count + before + __popc(votes & ((1u << lane) - 1u));
    if (is_candidate && place < kWarp) round.candidates[place] = row;
    if (is_candidate && place == kWarp) round.left_over = entry;
    __syncthreads();  // candidates and what is left over are there, and the votes are read
    search.entry = total > kWarp ? round.left_over : is_last ? search.end : search.entry + kCondensers;
    search.count = min(total, kWarp);
  }
}

// The first warp: which candidates, whose places are in shared memory, are near no centre before them.
template <class T>
__device__ void choose_centres(const Condensation<T>& work, Round& round, int count, const T* places) {
  const int lane = threadIdx.x;
  unsigned chosen = count == kWarp ? kAllLanes : (1u << count) - 1u;
  for (int one = 0; one < count; ++one) {
    if ((chosen >> one & 1u) == 0) continue;  // the same for all lanes
    const bool is_near = lane > one && lane < count &&
                         squared_distance(places + lane * work.columns, places + one * work.columns, work.columns) < work.limit;
    chosen &= ~__ballot_sync(kAllLanes, is_near);
  }
  if (chosen >> lane & 1u) {
    round.slots[__popc(chosen & ((1u << lane) - 1u))] = lane;
    work.centre[round.candidates[lane]] = round.candidates[lane];
  }
  if (lane == 0) round.num_centres = __popc(chosen);
}

template <class T>
__global__ void __launch_bounds__(kCondensers) condense_kernel(Condensation<T> work) {
  extern __shared__ __align__(8) unsigned char memory[];
  T* const places = reinterpret_cast<T*>(memory);  // of the candidates
  __shared__ Round round;
  for (int64_t cloud = blockIdx.x; cloud < work.clouds.count; cloud += gridDim.x) {
    const EntryRange range = work.clouds.entries(cloud);
    Search search{range.begin, range.end, 0};
    while (true) {
      __syncthreads();  // all have read the round before, and its points are handed out
      find_candidates(work, round, search);
      if (search.count == 0) break;  // the same for all threads
      for (int64_t i = threadIdx.x; i < search.count * work.columns; i += kCondensers) {
        places[i] = work.clouds.points[round.candidates[i / work.columns] * work.columns + i % work.columns];
      }
      __syncthreads();
      if (threadIdx.x < kWarp) choose_centres(work, round, search.count, places);
      __syncthreads();
      for (int64_t entry = range.begin + threadIdx.x; entry < range.end; entry += kCondensers) {
        const int32_t row = work.clouds.row_at(entry);
        if (row < 0 || work.centre[row] >= 0) continue;
        const T* const place = work.clouds.points + row * work.columns;
        for (int i = 0; i < round.num_centres; ++i) {
          const int slot = round.slots[i];
          if (squared_distance(place, places + slot * work.columns, work.columns) < work.limit) {
            work.centre[row] = round.candidates[slot];
            break;
          }
        }
      }
    }
  }
}

Tensor condense(const Tensor& points, const Tensor& beta, const Tensor& order, const Tensor& starts, double radius,
                double min_beta) {
  check_condense(points, beta, order, starts, radius);
  check_one_device("condense", {points, beta, order, starts});
  const CudaScope scope(points);
  const Tensor centre = empty_on(points, {points.size(0)}, ScalarType::Int);
  if (centre.numel() == 0) return centre;
  PCPERC_CUDA_CHECK(cudaMemsetAsync(centre.data_ptr(), 0xff, centre.numel() * sizeof(int32_t), scope.stream()));  // -1
  const int64_t count = starts.numel() - 1, columns = points.size(1);
  if (count == 0) return centre;
  dispatch_positions(points.scalar_type(), "condense", [&](auto zero) {
    using T = decltype(zero);
    const Condensation<T> work(points, beta, order, starts, radius, min_beta, centre);
    condense_kernel<<<grid_size(count, 1), kCondensers, kWarp * columns * sizeof(T), scope.stream()>>>(work);
  });
  PCPERC_LAUNCH_CHECK();
  return centre;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) { m.impl("condense", TORCH_BOX(&pcperc::condense)); }
