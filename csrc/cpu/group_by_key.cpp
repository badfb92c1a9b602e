// SPDX-License-Identifier: Apache-2.0
// Group rows by an integer key: one stable radix sort.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <memory>
#include <tuple>
#include <vector>

#include "common/buffer.h"
#include "common/check.h"
#include "common/radix_sort.h"

namespace pcperc {
namespace {

Tensor new_tensor(const Tensor& like, int64_t size, ScalarType dtype) {
  return torch::stable::new_empty(like, {size}, dtype);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> group_by_key(const Tensor& keys, int64_t num_keys) {
  check_dtype(keys, ScalarType::Long, "group_by_key", "keys");
  STD_TORCH_CHECK(keys.dim() == 1 && keys.is_contiguous(), "group_by_key: keys must be contiguous, 1 dimension");
  const int64_t n = keys.numel();
  STD_TORCH_CHECK(n < INT32_MAX, "group_by_key: at most 2^31 - 2 rows, got ", n);
  const int64_t* key = keys.const_data_ptr<int64_t>();

  std::unique_ptr<KeyRow[]> items = new_buffer<KeyRow>(n);
  int64_t num_kept = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (key[i] >= 0 && key[i] < num_keys) items[num_kept++] = {static_cast<uint64_t>(key[i]), static_cast<int32_t>(i)};
  }
  radix_sort(items, num_kept);
  const std::vector<int64_t> groups_before = count_runs(items.get(), num_kept);
  const int64_t num_groups = groups_before.back();

  Tensor order = new_tensor(keys, num_kept, ScalarType::Int);
  Tensor starts = new_tensor(keys, num_groups + 1, ScalarType::Int);
  Tensor values = new_tensor(keys, num_groups, ScalarType::Long);
  Tensor inverse = new_tensor(keys, n, ScalarType::Long);
  torch::stable::fill_(inverse, -1);
  int32_t* order_data = order.mutable_data_ptr<int32_t>();
  int32_t* starts_data = starts.mutable_data_ptr<int32_t>();
  int64_t* values_data = values.mutable_data_ptr<int64_t>();
  int64_t* inverse_data = inverse.mutable_data_ptr<int64_t>();
  visit_runs(items.get(), num_kept, groups_before, [&](int64_t j, int64_t group, bool is_first) {
    order_data[j] = items[j].row;
    inverse_data[items[j].row] = group;
    if (!is_first) return;
    starts_data[group] = static_cast<int32_t>(j);
    values_data[group] = static_cast<int64_t>(items[j].key);
  });
  starts_data[num_groups] = static_cast<int32_t>(num_kept);
  return {order, starts, values, inverse};
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) { m.impl("group_by_key", TORCH_BOX(&pcperc::group_by_key)); }
