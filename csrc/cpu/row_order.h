// SPDX-License-Identifier: Apache-2.0
#pragma once
// Tables whose columns come in another order than the output rows: made for a GPU, where it saves work; a CPU undoes it.
#include <algorithm>
#include <optional>

#include "common/parallel.h"
#include "common/sparse_conv_args.h"
#include "common/tensors.h"

namespace pcperc {

// The table with column row_order[j] where column j was; rows that the order leaves out get no neighbours.
inline Tensor in_row_order(const Tensor& neighbors, const std::optional<Tensor>& row_order) {
  const Tensor table = as_contiguous(neighbors);
  if (!row_order.has_value()) return table;
  const Tensor order = as_contiguous(*row_order);
  Tensor result = torch::stable::new_empty(table, {table.size(0), table.size(1)});
  const auto* columns = static_cast<const int32_t*>(order.data_ptr());
  const int64_t num_rows = table.size(1);
  parallel_queue(table.size(0), [&](int64_t tap) {
    const auto* from = static_cast<const int32_t*>(table.data_ptr()) + tap * num_rows;
    auto* to = static_cast<int32_t*>(result.data_ptr()) + tap * num_rows;
    std::fill_n(to, num_rows, -1);
    for (int64_t j = 0; j < num_rows; ++j) {
      if (columns[j] >= 0 && columns[j] < num_rows) to[columns[j]] = from[j];
    }
  });
  return result;
}

}  // namespace pcperc
