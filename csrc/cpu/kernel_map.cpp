// SPDX-License-Identifier: Apache-2.0
// The kernel map of a convolution as a neighbour table, and the table of the opposite direction.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <limits>
#include <vector>

#include "common/conv_geometry.h"
#include "common/coord_errors.h"
#include "common/hash_table.h"
#include "common/parallel.h"

namespace pcperc {
namespace {

constexpr int64_t kRowBlock = 64;  // rows whose table slots are prefetched together
constexpr int64_t kNoRow = std::numeric_limits<int64_t>::max();

// The keys of all rows; the first row that has none is an error.
std::vector<CoordKey> make_keys(const Tensor& coords, KeyLayout layout, const char* name) {
  const auto* rows = static_cast<const int32_t*>(coords.data_ptr());
  std::vector<CoordKey> keys(coords.size(0));
  for (int64_t row = 0; row < coords.size(0); ++row) {
    keys[row] = layout.row_key(rows + row * layout.columns());
    if (keys[row] == kEmptyKey) throw_out_of_range("build_kernel_map", name, {row, rows + row * layout.columns(), layout});
  }
  return keys;
}

HashTable make_table(const Tensor& coords, const std::vector<CoordKey>& keys, KeyLayout layout) {
  const auto* rows = static_cast<const int32_t*>(coords.data_ptr());
  const int64_t count = keys.size();
  HashTable table(count);
  for (int64_t row = 0; row < count; ++row) {
    if (!table.insert(keys[row], static_cast<int32_t>(row))) {
      throw_duplicate("build_kernel_map", "in_coords", {row, rows + row * layout.columns(), layout});
    }
  }
  return table;
}

// Fill neighbors[tap][begin..end) for one tap.
void find_rows(const HashTable& table, const ConvGeometry& geometry, const std::vector<CoordKey>& out, int32_t tap,
               int64_t begin, int64_t end, int32_t* neighbors) {
  CoordKey keys[kRowBlock];
  for (int64_t m = begin; m < end; ++m) {
    keys[m - begin] = geometry.fine_key(out[m], tap);
    table.prefetch(keys[m - begin]);
  }
  for (int64_t m = begin; m < end; ++m) neighbors[m] = keys[m - begin] == kEmptyKey ? -1 : table.find(keys[m - begin]);
}

Tensor build_kernel_map(Tensor in_coords, Tensor out_coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                        std::vector<int64_t> padding, std::vector<int64_t> dilation) {
  constexpr const char* op = "build_kernel_map";
  in_coords = torch::stable::contiguous(in_coords);
  out_coords = torch::stable::contiguous(out_coords);
  const KeyLayout layout = check_coords(in_coords, op, "in_coords");
  check_coords(out_coords, op, "out_coords");
  check_same_dims(op, in_coords, out_coords);
  const ConvGeometry geometry = make_geometry(op, layout, kernel_size, stride, padding, dilation);
  const int64_t num_in = in_coords.size(0), num_out = out_coords.size(0);
  const int32_t volume = geometry.volume();
  const bool is_same = in_coords.data_ptr() == out_coords.data_ptr() && num_in == num_out;
  const bool is_submanifold = is_same && geometry.is_symmetric();
  const std::vector<CoordKey> in = make_keys(in_coords, layout, "in_coords");
  const HashTable table = make_table(in_coords, in, layout);
  const std::vector<CoordKey> out = make_keys(out_coords, layout, "out_coords");
  Tensor result = torch::stable::new_empty(in_coords, {volume, num_out}, ScalarType::Int);
  auto* neighbors = static_cast<int32_t*>(result.data_ptr());
  // A submanifold map is its own mirror image: half the taps are looked up, the other half is written from them. Every
  // mirrored entry has one writer, since a row is the neighbour of one row under one tap.
  const int32_t num_lookups = is_submanifold ? volume / 2 : volume;
  const bool has_centre = is_submanifold && volume % 2 == 1;
  if (is_submanifold) std::fill(neighbors + num_lookups * num_out, neighbors + volume * num_out, -1);
  parallel_blocks(num_out, kRowBlock, [&](int64_t, int64_t begin, int64_t end) {
    for (int32_t tap = 0; tap < num_lookups; ++tap) {
      int32_t* row = neighbors + tap * num_out;
      find_rows(table, geometry, out, tap, begin, end, row);
      if (!is_submanifold) continue;
      int32_t* mirror = neighbors + (volume - 1 - tap) * num_out;
      for (int64_t m = begin; m < end; ++m) {
        if (row[m] >= 0) mirror[row[m]] = static_cast<int32_t>(m);
      }
    }
    for (int64_t m = begin; has_centre && m < end; ++m) neighbors[num_lookups * num_out + m] = static_cast<int32_t>(m);
  });
  return result;
}

Tensor reverse_kernel_map(Tensor neighbors, int64_t num_inputs) {
  constexpr const char* op = "reverse_kernel_map";
  neighbors = torch::stable::contiguous(neighbors);
  check_matrix(neighbors, op, "neighbors");
  check_dtype(neighbors, ScalarType::Int, op, "neighbors");
  STD_TORCH_CHECK(num_inputs >= 0, op, ": num_inputs must be >= 0, got ", num_inputs);
  const int64_t volume = neighbors.size(0), num_out = neighbors.size(1);
  Tensor result = torch::stable::new_empty(neighbors, {volume, num_inputs}, ScalarType::Int);
  const auto* forward = static_cast<const int32_t*>(neighbors.data_ptr());
  auto* reverse = static_cast<int32_t*>(result.data_ptr());
  std::atomic<int64_t> bad{kNoRow};
  parallel_rows(volume, 1, [&](int64_t first, int64_t last) {
    std::fill(reverse + first * num_inputs, reverse + last * num_inputs, -1);
    for (int64_t entry = first * num_out; entry < last * num_out; ++entry) {
      const int64_t tap = entry / num_out, in = forward[entry];
      if (in < 0) continue;
      if (in >= num_inputs || reverse[tap * num_inputs + in] != -1) return atomic_min(bad, entry);
      reverse[tap * num_inputs + in] = static_cast<int32_t>(entry - tap * num_out);
    }
  });
  if (bad != kNoRow) throw_bad_neighbor(op, bad / num_out, bad % num_out, forward[bad], num_inputs);
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("build_kernel_map", TORCH_BOX(&build_kernel_map));
  m.impl("reverse_kernel_map", TORCH_BOX(&reverse_kernel_map));
}

}  // namespace pcperc
