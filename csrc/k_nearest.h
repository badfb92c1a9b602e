// SPDX-License-Identifier: Apache-2.0
#pragma once
// The nearest points in a space of a few coordinates: the arguments checked.
#include "neighbors.h"

namespace pcperc {

constexpr int64_t kMaxNearestColumns = 16;  // coordinates, which a thread of a GPU holds in registers

inline void check_k_nearest(const Tensor& points, const Tensor& order, const Tensor& starts, const Tensor& queries,
                            const Tensor& query_item, int64_t num_neighbors) {
  const char* op = "k_nearest";
  check_matrix(points, op, "points");
  const int64_t columns = points.size(1);
  STD_TORCH_CHECK(columns >= 1 && columns <= kMaxNearestColumns, op, ": points must have 1 to ", kMaxNearestColumns,
                  " columns, got ", columns);
  check_clouds(op, points, order, starts, columns);
  check_queries(op, points, queries, query_item);
  STD_TORCH_CHECK(num_neighbors >= 1, op, ": num_neighbors must be >= 1, got ", num_neighbors);
}

}  // namespace pcperc
