// SPDX-License-Identifier: Apache-2.0
#pragma once
// Neighbours among the points of a cloud, the same on CPU and CUDA: squares added in the order of the coordinates and without
// contraction, so that both choose the same rows, and the arguments checked. Points (N, 3), of k_nearest (N, S), are float32 or
// float64; order and starts are Segments of the clouds.
#include <cmath>
#include <cstdint>

#include "common/dispatch.h"
#include "common/rounded.h"
#include "segment.h"

namespace pcperc {

template <class T>
PCPERC_HOST_DEVICE T squared_distance(const T* a, const T* b, int64_t columns = 3) {
  T sum = times(a[0] - b[0], a[0] - b[0]);
  for (int64_t c = 1; c < columns; ++c) sum = plus(sum, times(a[c] - b[c], a[c] - b[c]));
  return sum;
}

template <class T>
PCPERC_HOST_DEVICE bool is_point(const T* p, int64_t columns = 3) {
  for (int64_t c = 0; c < columns; ++c) {
    if (!std::isfinite(p[c])) return false;
  }
  return true;
}

// The rows of the clouds: cloud i holds order[starts[i] .. starts[i + 1]].
struct CloudRows {
  const int32_t *order, *starts;
  int64_t num_points, count;

  PCPERC_HOST_DEVICE EntryRange entries(int64_t cloud) const {
    return is_index(cloud, count) ? entries_within(starts[cloud], starts[cloud + 1], num_points) : EntryRange{0, 0};
  }
  // The row of an entry, or -1 outside of the buffer.
  PCPERC_HOST_DEVICE int32_t row_at(int64_t entry) const {
    const int32_t row = order[entry];
    return is_index(row, num_points) ? row : -1;
  }
};

template <class T>
struct Clouds : CloudRows {
  const T* points;

  // The row of an entry, or -1 where it is no point: outside of the buffer, or not finite.
  PCPERC_HOST_DEVICE int32_t row(int64_t entry) const {
    const int32_t row = row_at(entry);
    return row >= 0 && is_point(points + 3 * int64_t{row}) ? row : -1;
  }
};

inline void check_positions(const Tensor& points, int64_t columns, ScalarType dtype, const char* op, const char* name) {
  check_matrix(points, op, name);
  check_dtype(points, dtype, op, name);
  STD_TORCH_CHECK(points.size(1) == columns, op, ": ", name, " must have ", columns, " columns, got ", points.size(1));
}

inline void check_clouds(const char* op, const Tensor& points, const Tensor& order, const Tensor& starts, int64_t columns = 3) {
  check_positions(points, columns, points.scalar_type(), op, "points");
  check_vector(order, ScalarType::Int, op, "order");
  check_vector(starts, ScalarType::Int, op, "starts");
  STD_TORCH_CHECK(points.size(0) <= INT32_MAX, op, ": at most 2^31 - 1 points, got ", points.size(0));
  STD_TORCH_CHECK(order.numel() == points.size(0) && starts.numel() >= 1, op, ": order must have ", points.size(0),
                  " values, starts at least 1");
}

inline void check_queries(const char* op, const Tensor& points, const Tensor& queries, const Tensor& query_item) {
  check_positions(queries, points.size(1), points.scalar_type(), op, "queries");
  check_vector(query_item, ScalarType::Int, op, "query_item");
  STD_TORCH_CHECK(query_item.numel() == queries.size(0), op, ": query_item must have ", queries.size(0), " values");
}

template <class T>
Clouds<T> clouds_of(const Tensor& points, const Tensor& order, const Tensor& starts) {
  const CloudRows rows{order.const_data_ptr<int32_t>(), starts.const_data_ptr<int32_t>(), points.size(0), starts.numel() - 1};
  return {rows, points.const_data_ptr<T>()};
}

// The three nearest points so far, nearest first; of equally near ones the one that was met first. A distance that overflows is
// still a neighbour where there are no others.
template <class T>
struct Nearest3 {
  int32_t row[3] = {-1, -1, -1};
  T distance[3] = {0, 0, 0};

  PCPERC_HOST_DEVICE void meet(int32_t candidate, T d) {
    int place = 3;
    while (place > 0 && (row[place - 1] < 0 || d < distance[place - 1])) --place;
    for (int i = 2; i >= place; --i) {
      row[i] = i > place ? row[i - 1] : candidate;
      distance[i] = i > place ? distance[i - 1] : d;
    }
  }
};

template <class T>
PCPERC_HOST_DEVICE Nearest3<T> find_nearest_3(const Clouds<T>& clouds, const T* query, int64_t cloud) {
  Nearest3<T> nearest;
  if (!is_point(query)) return nearest;
  const EntryRange range = clouds.entries(cloud);
  for (int64_t entry = range.begin; entry < range.end; ++entry) {
    const int32_t row = clouds.row(entry);
    if (row >= 0) nearest.meet(row, squared_distance(clouds.points + 3 * int64_t{row}, query));
  }
  return nearest;
}

}  // namespace pcperc
