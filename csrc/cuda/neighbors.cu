// SPDX-License-Identifier: Apache-2.0
// Neighbours among the points of a cloud, by looking at all of them: a warp for each ball, a thread for each three nearest.
#include "neighbors.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/launch.cuh"

namespace pcperc {
namespace {

// The lanes look at 32 entries at a time; a vote gives each point that is inside its place behind those found before.
template <class T>
__global__ void ball_query_kernel(Clouds<T> clouds, const T* queries, const int32_t* item, int64_t count, T limit,
                                  int64_t num_neighbors, int32_t* table) {
  const int lane = threadIdx.x % kWarp;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / kWarp);
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x / kWarp) + threadIdx.x / kWarp; i < count; i += warps) {
    int64_t found = 0;
    const EntryRange range = clouds.entries(item[i]);
    for (int64_t first = range.begin; first < range.end && found < num_neighbors; first += kWarp) {
      const int32_t row = first + lane < range.end ? clouds.row(first + lane) : -1;
      const bool inside = row >= 0 && squared_distance(clouds.points + 3 * int64_t{row}, queries + 3 * i) < limit;
      const unsigned votes = __ballot_sync(kAllLanes, inside);
      const int64_t place = found + __popc(votes & ((1u << lane) - 1u));
      if (inside && place < num_neighbors) table[i * num_neighbors + place] = row;
      found += __popc(votes);
    }
    for (int64_t place = found + lane; place < num_neighbors; place += kWarp) table[i * num_neighbors + place] = -1;
  }
}

template <class T>
__global__ void three_nearest_kernel(Clouds<T> clouds, const T* queries, const int32_t* item, int64_t count, int32_t* rows,
                                     T* distances) {
  PCPERC_GRID_LOOP(i, count) {
    const Nearest3<T> nearest = find_nearest_3(clouds, queries + 3 * i, item[i]);
    for (int k = 0; k < 3; ++k) {
      rows[3 * i + k] = nearest.row[k];
      distances[3 * i + k] = nearest.distance[k];
    }
  }
}

Tensor ball_query(const Tensor& points, const Tensor& order, const Tensor& starts, const Tensor& queries,
                  const Tensor& query_item, double radius, int64_t num_neighbors) {
  check_clouds("ball_query", points, order, starts);
  check_queries("ball_query", points, queries, query_item);
  check_one_device("ball_query", {points, order, starts, queries, query_item});
  STD_TORCH_CHECK(num_neighbors >= 0, "ball_query: num_neighbors must be >= 0, got ", num_neighbors);
  const int64_t count = queries.size(0);
  const CudaScope scope(points);
  const Tensor table = empty_on(points, {count, num_neighbors}, ScalarType::Int);
  if (table.numel() == 0) return table;
  dispatch_positions(points.scalar_type(), "ball_query", [&](auto zero) {
    using T = decltype(zero);
    ball_query_kernel<<<grid_size(count, kThreads / kWarp), kThreads, 0, scope.stream()>>>(
        clouds_of<T>(points, order, starts), queries.const_data_ptr<T>(), query_item.const_data_ptr<int32_t>(), count,
        static_cast<T>(radius * radius), num_neighbors, table.mutable_data_ptr<int32_t>());
  });
  PCPERC_LAUNCH_CHECK();
  return table;
}

std::tuple<Tensor, Tensor> three_nearest(const Tensor& points, const Tensor& order, const Tensor& starts,
                                         const Tensor& queries, const Tensor& query_item) {
  check_clouds("three_nearest", points, order, starts);
  check_queries("three_nearest", points, queries, query_item);
  check_one_device("three_nearest", {points, order, starts, queries, query_item});
  const int64_t count = queries.size(0);
  const CudaScope scope(points);
  const Tensor rows = empty_on(points, {count, 3}, ScalarType::Int);
  const Tensor distances = empty_on(points, {count, 3}, points.scalar_type());
  if (count == 0) return {rows, distances};
  dispatch_positions(points.scalar_type(), "three_nearest", [&](auto zero) {
    using T = decltype(zero);
    three_nearest_kernel<<<grid_size(count), kThreads, 0, scope.stream()>>>(
        clouds_of<T>(points, order, starts), queries.const_data_ptr<T>(), query_item.const_data_ptr<int32_t>(), count,
        rows.mutable_data_ptr<int32_t>(), distances.mutable_data_ptr<T>());
  });
  PCPERC_LAUNCH_CHECK();
  return {rows, distances};
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("ball_query", TORCH_BOX(&pcperc::ball_query));
  m.impl("three_nearest", TORCH_BOX(&pcperc::three_nearest));
}
