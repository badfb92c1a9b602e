// SPDX-License-Identifier: Apache-2.0
// Order the columns of a kernel map so that neighbouring ones have neighbours under the same taps: the order that
// csrc/cuda/order_rows.cu says more about.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <tuple>
#include <vector>

#include "common/buffer.h"
#include "common/check.h"
#include "common/parallel.h"
#include "common/radix_sort.h"
#include "common/tensors.h"

namespace pcperc {
namespace {

constexpr int64_t kGrain = 4096, kWordTaps = 64;

// The taps by ascending number of rows that have a neighbour under them, ties in order.
std::vector<int64_t> rarest_first(const int32_t* neighbors, int64_t num_taps, int64_t num_rows) {
  std::vector<int64_t> counts(num_taps), taps(num_taps);
  parallel_rows(num_taps, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tap = begin; tap < end; ++tap) {
      const int32_t* rows = neighbors + tap * num_rows;
      counts[tap] = std::count_if(rows, rows + num_rows, [](int32_t row) { return row >= 0; });
    }
  });
  std::iota(taps.begin(), taps.end(), int64_t{0});
  std::stable_sort(taps.begin(), taps.end(), [&](int64_t a, int64_t b) { return counts[a] < counts[b]; });
  return taps;
}

std::tuple<Tensor, Tensor> order_rows(Tensor neighbors) {
  neighbors = as_contiguous(neighbors);
  check_matrix(neighbors, "order_rows", "neighbors");
  check_dtype(neighbors, ScalarType::Int, "order_rows", "neighbors");
  const int64_t num_taps = neighbors.size(0), num_rows = neighbors.size(1);
  const auto* from = static_cast<const int32_t*>(neighbors.data_ptr());
  const std::vector<int64_t> taps = rarest_first(from, num_taps, num_rows);
  std::unique_ptr<KeyRow[]> items = new_buffer<KeyRow>(num_rows);
  for (int64_t row = 0; row < num_rows; ++row) items[row].row = static_cast<int32_t>(row);
  // A stable sort by each word of the place in the Gray code, the last one first; complements sort descending.
  for (int64_t end = num_taps; end > 0; end = (end - 1) / kWordTaps * kWordTaps) {
    const int64_t begin = (end - 1) / kWordTaps * kWordTaps;
    parallel_rows(num_rows, kGrain, [&](int64_t first, int64_t last) {
      for (int64_t j = first; j < last; ++j) {
        uint64_t key = 0;
        bool bit = false;
        for (int64_t place = 0; place < end; ++place) {
          bit ^= from[taps[place] * num_rows + items[j].row] >= 0;
          if (place >= begin) key = key << 1 | bit;
        }
        items[j].key = ~key;
      }
    });
    radix_sort(items, num_rows);
  }

  Tensor ordered = torch::stable::new_empty(neighbors, {num_taps, num_rows}, ScalarType::Int);
  Tensor order = torch::stable::new_empty(neighbors, {num_rows}, ScalarType::Int);
  auto *to = static_cast<int32_t*>(ordered.data_ptr()), *rows = static_cast<int32_t*>(order.data_ptr());
  for (int64_t j = 0; j < num_rows; ++j) rows[j] = items[j].row;
  parallel_rows(num_taps, 1, [&](int64_t first, int64_t last) {
    for (int64_t tap = first; tap < last; ++tap) {
      for (int64_t j = 0; j < num_rows; ++j) to[tap * num_rows + j] = from[tap * num_rows + rows[j]];
    }
  });
  return {ordered, order};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) { m.impl("order_rows", TORCH_BOX(&order_rows)); }

}  // namespace pcperc
