// SPDX-License-Identifier: Apache-2.0
// The nearest points in a space of a few coordinates: a warp for each query, whose lanes look at 32 points at a time and hold the
// nearest so far, sorted, in their registers. A block's queries read the points together, through shared memory, which serves
// best where queries beside each other are of one cloud.
#include "k_nearest.h"

#include <torch/csrc/stable/library.h>

#include <limits>
#include <tuple>

#include "common/launch.cuh"

namespace pcperc {
namespace {

constexpr int kQueries = kThreads / kWarp;  // of a block
constexpr int kTile = kThreads;             // points of a tile, of which each thread copies one
constexpr int kMostRegisters = 4;           // ranks of a lane, 128 of a warp
constexpr int kAhead = 4;                   // distances that a lane computes before it looks at them

template <class T>
struct alignas(4 * sizeof(T)) Quad {
  T value[4];
};

// Entries of the order, by distance, of equally near ones the first: rank j * 32 + lane is in register j of a lane. A rank that
// nobody has taken holds NaN, which is neither nearer nor further than a distance.
template <class T, int kRegisters>
struct NearestOfWarp {
  T distance[kRegisters];
  int32_t entry[kRegisters];

  __device__ NearestOfWarp() {
#pragma unroll
    for (int j = 0; j < kRegisters; ++j) distance[j] = std::numeric_limits<T>::quiet_NaN(), entry[j] = -1;
  }

  // All lanes call it with the same distance and entry; the entries behind it move up by one rank, and the last one falls out.
  __device__ void insert(T new_distance, int32_t new_entry, int lane) {
    T last_distance = T{-1};  // for lane 0, what is one rank below its register
    int32_t last_entry = -1;
#pragma unroll
    for (int j = 0; j < kRegisters; ++j) {
      const T turned_distance = __shfl_sync(kAllLanes, distance[j], (lane + kWarp - 1) % kWarp);
      const int32_t turned_entry = __shfl_sync(kAllLanes, entry[j], (lane + kWarp - 1) % kWarp);
      const T below_distance = lane == 0 ? last_distance : turned_distance;
      const int32_t below_entry = lane == 0 ? last_entry : turned_entry;
      if (!(distance[j] <= new_distance)) {
        const bool is_here = below_distance <= new_distance;
        distance[j] = is_here ? new_distance : below_distance;
        entry[j] = is_here ? new_entry : below_entry;
      }
      last_distance = turned_distance;
      last_entry = turned_entry;
    }
  }
};

// Copy the points of entries from `start` on, those before `end`; coordinates that there are none of are 0, and what is no point
// has a NaN in front.
template <class T, int kQuads>
__device__ void load_tile(Quad<T> (&tile)[kQuads][kTile], const Clouds<T>& clouds, int columns, int64_t start, int64_t end) {
  const int64_t entry = start + threadIdx.x;
  const int32_t row = entry < end ? clouds.row_at(entry) : -1;
  const T* point = clouds.points + int64_t{row} * columns;
  bool is_whole = row >= 0;
  Quad<T> quads[kQuads];
#pragma unroll
  for (int c = 0; c < 4 * kQuads; ++c) {
    const T value = row >= 0 && c < columns ? point[c] : T{0};
    is_whole = is_whole && std::isfinite(value);
    quads[c / 4].value[c % 4] = value;
  }
  if (!is_whole) quads[0].value[0] = std::numeric_limits<T>::quiet_NaN();
#pragma unroll
  for (int q = 0; q < kQuads; ++q) tile[q][threadIdx.x] = quads[q];
}

// Squares of coordinates that there are none of are 0 and change no bit of the sum.
template <class T, int kQuads>
__device__ T squared_distance_of(const Quad<T> (&tile)[kQuads][kTile], int slot, const T (&query)[4 * kQuads]) {
  T sum{};
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    const Quad<T> point = tile[q][slot];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const T apart = point.value[c] - query[4 * q + c];
      sum = q + c == 0 ? times(apart, apart) : plus(sum, times(apart, apart));
    }
  }
  return sum;
}

// What a warp knows of its query. A limit of NaN stands for none: there are too few neighbours so far.
template <class T, int kQuads, int kRegisters>
struct Search {
  T query[4 * kQuads];
  NearestOfWarp<T, kRegisters> nearest;
  T limit = std::numeric_limits<T>::quiet_NaN();  // the distance of the last neighbour; less is nearer
  T floor = T{-1};                                // distance and entry of the last neighbour of the search before
  int32_t floor_entry = -1;

  // Where more are asked for than fit into the registers, another search finds those behind the first.
  static constexpr bool kRepeats = kRegisters == kMostRegisters;

  // Meet the points in slots [low, high) of a tile whose first entry is `start`; the last neighbour is in the last register of
  // `last_lane`. (A register that is chosen by number would send the lists to memory.)
  __device__ void meet(const Quad<T> (&tile)[kQuads][kTile], int64_t start, int low, int high, int last_lane) {
    const int lane = threadIdx.x % kWarp;
    for (int first = 0; first < kTile; first += kAhead * kWarp) {
      T distance[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) distance[a] = squared_distance_of<T, kQuads>(tile, first + a * kWarp + lane, query);
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const int slot = first + a * kWarp + lane;
        const T own = distance[a];
        const bool is_inside = static_cast<unsigned>(slot - low) < static_cast<unsigned>(high - low);
        bool is_near = is_inside & (own == own) & !(own >= limit);  // && would branch
        if (kRepeats) is_near = is_near & ((own > floor) | ((own == floor) & (start + slot > floor_entry)));
        for (unsigned near = __ballot_sync(kAllLanes, is_near); near != 0; near &= near - 1) {
          const int source = __ffs(near) - 1;
          const T candidate = __shfl_sync(kAllLanes, own, source);
          if (candidate >= limit) continue;  // one before it lowered the limit; the same for all lanes
          nearest.insert(candidate, static_cast<int32_t>(start + first + a * kWarp + source), lane);
          limit = __shfl_sync(kAllLanes, nearest.distance[kRegisters - 1], last_lane);
        }
      }
    }
  }

  // Begin another search behind the last rank; where that is NaN, because there were fewer, nothing is.
  __device__ void begin_behind() {
    floor = __shfl_sync(kAllLanes, nearest.distance[kRegisters - 1], kWarp - 1);
    floor_entry = __shfl_sync(kAllLanes, nearest.entry[kRegisters - 1], kWarp - 1);
    nearest = {};
    limit = std::numeric_limits<T>::quiet_NaN();
  }
};

// The entries that any query of the block looks at lie in the range that is returned; every thread must call it.
__device__ EntryRange range_of_block(EntryRange own) {
  __shared__ EntryRange ranges[kQueries];
  __syncthreads();  // those of the call before have been read
  if (threadIdx.x % kWarp == 0) ranges[threadIdx.x / kWarp] = own;
  __syncthreads();
  EntryRange all{INT32_MAX, 0};
  for (const EntryRange& range : ranges) {
    if (range.begin < range.end) all = {min(all.begin, range.begin), max(all.end, range.end)};
  }
  return all;
}

template <class T, int kQuads, int kRegisters>
__global__ void __launch_bounds__(kThreads) k_nearest_kernel(Clouds<T> clouds, int columns, const T* queries, const int32_t* item,
                                                             int64_t count, int64_t num_neighbors, int32_t* rows, T* distances) {
  __shared__ Quad<T> tile[kQuads][kTile];
  constexpr int kRanks = kWarp * kRegisters;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kQueries;
  for (int64_t first = blockIdx.x * int64_t{kQueries}; first < count; first += step) {  // the same for all threads of the block
    const int64_t i = first + warp;
    const bool is_query = i < count && is_point(queries + i * columns, columns);
    const EntryRange range = is_query ? clouds.entries(item[i]) : EntryRange{0, 0};
    Search<T, kQuads, kRegisters> search;
#pragma unroll
    for (int c = 0; c < 4 * kQuads; ++c) search.query[c] = is_query && c < columns ? queries[i * columns + c] : T{0};
    const EntryRange all = range_of_block(range);
    for (int64_t done = 0; done < num_neighbors; done += kRanks) {
      const int wanted = static_cast<int>(min(num_neighbors - done, int64_t{kRanks}));
      const int last_lane = wanted > kRanks - kWarp ? (wanted - 1) % kWarp : kWarp - 1;
      for (int64_t start = all.begin; start < all.end; start += kTile) {
        const int low = static_cast<int>(min(max(range.begin - start, int64_t{0}), int64_t{kTile}));
        const int high = static_cast<int>(min(max(range.end - start, int64_t{0}), int64_t{kTile}));
        if (!__syncthreads_or(low < high)) continue;  // a wait too: the tile before has been read
        load_tile<T, kQuads>(tile, clouds, columns, start, all.end);
        __syncthreads();
        if (low < high) search.meet(tile, start, low, high, last_lane);
      }
#pragma unroll
      for (int j = 0; j < kRegisters; ++j) {
        const int rank = j * kWarp + lane;
        if (i >= count || rank >= wanted) continue;
        const int32_t entry = search.nearest.entry[j];
        rows[i * num_neighbors + done + rank] = entry >= 0 ? clouds.order[entry] : -1;
        distances[i * num_neighbors + done + rank] = entry >= 0 ? search.nearest.distance[j] : T{0};
      }
      if (!search.kRepeats) break;
      search.begin_behind();
    }
  }
}

template <class T>
using Kernel = void (*)(Clouds<T>, int, const T*, const int32_t*, int64_t, int64_t, int32_t*, T*);

template <class T, int kQuads>
Kernel<T> kernel_of(int64_t num_neighbors) {
  if (num_neighbors <= kWarp) return k_nearest_kernel<T, kQuads, 1>;
  return num_neighbors <= 2 * kWarp ? k_nearest_kernel<T, kQuads, 2> : k_nearest_kernel<T, kQuads, kMostRegisters>;
}

template <class T>
Kernel<T> kernel_of(int64_t columns, int64_t num_neighbors) {
  if (columns <= 4) return kernel_of<T, 1>(num_neighbors);
  return columns <= 8 ? kernel_of<T, 2>(num_neighbors) : kernel_of<T, kMaxNearestColumns / 4>(num_neighbors);
}

std::tuple<Tensor, Tensor> k_nearest(const Tensor& points, const Tensor& order, const Tensor& starts, const Tensor& queries,
                                     const Tensor& query_item, int64_t num_neighbors) {
  check_k_nearest(points, order, starts, queries, query_item, num_neighbors);
  check_one_device("k_nearest", {points, order, starts, queries, query_item});
  const int64_t count = queries.size(0), columns = points.size(1);
  const CudaScope scope(points);
  const Tensor rows = empty_on(points, {count, num_neighbors}, ScalarType::Int);
  const Tensor distances = empty_on(points, {count, num_neighbors}, points.scalar_type());
  if (count == 0) return {rows, distances};
  dispatch_positions(points.scalar_type(), "k_nearest", [&](auto zero) {
    using T = decltype(zero);
    kernel_of<T>(columns, num_neighbors)<<<grid_size(count, kQueries), kThreads, 0, scope.stream()>>>(
        clouds_of<T>(points, order, starts), static_cast<int>(columns), queries.const_data_ptr<T>(),
        query_item.const_data_ptr<int32_t>(), count, num_neighbors, rows.mutable_data_ptr<int32_t>(),
        distances.mutable_data_ptr<T>());
  });
  PCPERC_LAUNCH_CHECK();
  return {rows, distances};
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) { m.impl("k_nearest", TORCH_BOX(&pcperc::k_nearest)); }
