// SPDX-License-Identifier: Apache-2.0
// Rows grouped by the number of their segment: one stable radix sort.
#include "make_segments.h"

#include <torch/csrc/stable/library.h>

#include <memory>
#include <tuple>

#include "common/buffer.h"
#include "common/radix_sort.h"
#include "common/tensors.h"

namespace pcperc {
namespace {

constexpr int64_t kGrain = 4096;

template <class T>
void fill_items(const T* index, int64_t count, int64_t num_segments, int32_t* clamped, KeyRow* items) {
  parallel_rows(count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      clamped[i] = clamped_segment(index[i], num_segments);
      items[i] = {static_cast<uint64_t>(clamped[i] + 1), static_cast<int32_t>(i)};
    }
  });
}

std::tuple<Tensor, Tensor, Tensor> make_segments(Tensor index, int64_t num_segments) {
  index = as_contiguous(index);
  check_make_segments(index, num_segments);
  const int64_t count = index.numel();
  const Tensor clamped = empty_on(index, {count}, ScalarType::Int), order = empty_on(index, {count}, ScalarType::Int);
  const Tensor starts = empty_on(index, {num_segments + 1}, ScalarType::Int);
  std::unique_ptr<KeyRow[]> items = new_buffer<KeyRow>(count);
  if (index.scalar_type() == ScalarType::Int) {
    fill_items(index.const_data_ptr<int32_t>(), count, num_segments, data_of<int32_t>(clamped), items.get());
  } else {
    fill_items(index.const_data_ptr<int64_t>(), count, num_segments, data_of<int32_t>(clamped), items.get());
  }
  radix_sort(items, count);
  auto* const rows = data_of<int32_t>(order);
  auto* const first = data_of<int32_t>(starts);
  const auto key = [&](int64_t i) { return i < 0 ? 0 : i < count ? static_cast<int64_t>(items[i].key) : num_segments + 1; };
  // starts[s] is the first entry whose key is above s: entry i is it for all s from the key before its own up to that.
  parallel_rows(count + 1, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (i < count) rows[i] = items[i].row;
      std::fill(first + key(i - 1), first + key(i), static_cast<int32_t>(i));
    }
  });
  return {clamped, order, starts};
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) { m.impl("make_segments", TORCH_BOX(&pcperc::make_segments)); }
