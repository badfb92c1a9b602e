// SPDX-License-Identifier: Apache-2.0
// The nearest points in a space of a few coordinates: each query looks at all points of its cloud.
#include "k_nearest.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <tuple>

#include "common/parallel.h"

namespace pcperc {
namespace {

// Write the nearest points to `row` and their squared distances, nearest first, and return how many there are.
template <class T>
int64_t find_nearest(const Clouds<T>& clouds, const T* query, int64_t columns, int64_t cloud, int64_t num_neighbors,
                     int32_t* row, T* distance) {
  int64_t found = 0;
  if (!is_point(query, columns)) return found;
  const EntryRange range = clouds.entries(cloud);
  for (int64_t entry = range.begin; entry < range.end; ++entry) {
    const int32_t candidate = clouds.row_at(entry);
    if (candidate < 0) continue;
    const T* point = clouds.points + columns * candidate;
    const T d = squared_distance(point, query, columns);
    if (found == num_neighbors && !(d < distance[found - 1])) continue;
    if (!is_point(point, columns)) continue;
    int64_t place = std::min(found, num_neighbors - 1);
    found = place + 1;
    for (; place > 0 && d < distance[place - 1]; --place) {  // of equally near ones the earlier entry stays in front
      row[place] = row[place - 1];
      distance[place] = distance[place - 1];
    }
    row[place] = candidate;
    distance[place] = d;
  }
  return found;
}

std::tuple<Tensor, Tensor> k_nearest(const Tensor& points, const Tensor& order, const Tensor& starts, const Tensor& queries,
                                     const Tensor& query_item, int64_t num_neighbors) {
  check_k_nearest(points, order, starts, queries, query_item, num_neighbors);
  const int64_t count = queries.size(0), columns = points.size(1);
  Tensor rows = torch::stable::new_empty(points, {count, num_neighbors}, ScalarType::Int);
  Tensor distances = torch::stable::new_empty(points, {count, num_neighbors}, points.scalar_type());
  int32_t* row = rows.mutable_data_ptr<int32_t>();
  const int32_t* item = query_item.const_data_ptr<int32_t>();
  dispatch_positions(points.scalar_type(), "k_nearest", [&](auto zero) {
    using T = decltype(zero);
    const Clouds<T> clouds = clouds_of<T>(points, order, starts);
    const T* query = queries.const_data_ptr<T>();
    T* distance = distances.mutable_data_ptr<T>();
    parallel_rows(count, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        int32_t* own_row = row + num_neighbors * i;
        T* own_distance = distance + num_neighbors * i;
        const int64_t found = find_nearest(clouds, query + columns * i, columns, item[i], num_neighbors, own_row, own_distance);
        std::fill(own_row + found, own_row + num_neighbors, -1);
        std::fill(own_distance + found, own_distance + num_neighbors, T{0});
      }
    });
  });
  return {rows, distances};
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) { m.impl("k_nearest", TORCH_BOX(&pcperc::k_nearest)); }
