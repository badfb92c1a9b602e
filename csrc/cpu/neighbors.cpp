// SPDX-License-Identifier: Apache-2.0
// Neighbours among the points of a cloud, by looking at all of them: balls, and the three nearest.
#include "neighbors.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <tuple>

#include "common/parallel.h"

namespace pcperc {
namespace {

Tensor ball_query(const Tensor& points, const Tensor& order, const Tensor& starts, const Tensor& queries,
                  const Tensor& query_item, double radius, int64_t num_neighbors) {
  check_clouds("ball_query", points, order, starts);
  check_queries("ball_query", points, queries, query_item);
  STD_TORCH_CHECK(num_neighbors >= 0, "ball_query: num_neighbors must be >= 0, got ", num_neighbors);
  const int64_t count = queries.size(0);
  Tensor out = torch::stable::new_empty(points, {count, num_neighbors}, ScalarType::Int);
  int32_t* table = out.mutable_data_ptr<int32_t>();
  const int32_t* item = query_item.const_data_ptr<int32_t>();
  dispatch_positions(points.scalar_type(), "ball_query", [&](auto zero) {
    using T = decltype(zero);
    const Clouds<T> clouds = clouds_of<T>(points, order, starts);
    const T* query = queries.const_data_ptr<T>();
    const T limit = static_cast<T>(radius * radius);
    parallel_rows(count, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t found = 0;
        const EntryRange range = clouds.entries(item[i]);
        for (int64_t entry = range.begin; entry < range.end && found < num_neighbors; ++entry) {
          const int32_t row = clouds.row(entry);
          if (row >= 0 && squared_distance(clouds.points + 3 * int64_t{row}, query + 3 * i) < limit) {
            table[i * num_neighbors + found++] = row;
          }
        }
        std::fill(table + i * num_neighbors + found, table + (i + 1) * num_neighbors, -1);
      }
    });
  });
  return out;
}

std::tuple<Tensor, Tensor> three_nearest(const Tensor& points, const Tensor& order, const Tensor& starts,
                                         const Tensor& queries, const Tensor& query_item) {
  check_clouds("three_nearest", points, order, starts);
  check_queries("three_nearest", points, queries, query_item);
  const int64_t count = queries.size(0);
  Tensor rows = torch::stable::new_empty(points, {count, 3}, ScalarType::Int);
  Tensor distances = torch::stable::new_empty(points, {count, 3}, points.scalar_type());
  int32_t* row = rows.mutable_data_ptr<int32_t>();
  const int32_t* item = query_item.const_data_ptr<int32_t>();
  dispatch_positions(points.scalar_type(), "three_nearest", [&](auto zero) {
    using T = decltype(zero);
    const Clouds<T> clouds = clouds_of<T>(points, order, starts);
    const T* query = queries.const_data_ptr<T>();
    T* distance = distances.mutable_data_ptr<T>();
    parallel_rows(count, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Nearest3<T> nearest = find_nearest_3(clouds, query + 3 * i, item[i]);
        std::copy_n(nearest.row, 3, row + 3 * i);
        std::copy_n(nearest.distance, 3, distance + 3 * i);
      }
    });
  });
  return {rows, distances};
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("ball_query", TORCH_BOX(&pcperc::ball_query));
  m.impl("three_nearest", TORCH_BOX(&pcperc::three_nearest));
}
