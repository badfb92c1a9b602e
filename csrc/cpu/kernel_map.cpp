// SPDX-License-Identifier: Apache-2.0
// The kernel map of a convolution as a neighbour table, and the table of the opposite direction.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <limits>
#include <memory>
#include <unordered_set>
#include <vector>

#include "common/buffer.h"
#include "common/conv_geometry.h"
#include "common/coord_errors.h"
#include "common/hash_table.h"
#include "common/parallel.h"
#include "common/tensors.h"

namespace pcperc {
namespace {

constexpr int64_t kGrain = 4096;
constexpr int64_t kRowBlock = 256;  // rows whose table slots are prefetched together
constexpr int64_t kNoRow = std::numeric_limits<int64_t>::max();

// The keys of the rows of one coords tensor, kEmptyKey for padding; the first other row that has none is an error.
class RowKeys {
 public:
  RowKeys(const Tensor& coords, KeyLayout layout, const char* name)
      : rows_(static_cast<const int32_t*>(coords.data_ptr())), count_(coords.size(0)), layout_(layout),
        keys_(new_buffer<CoordKey>(count_)) {
    std::atomic<int64_t> bad{kNoRow};
    parallel_rows(count_, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        keys_[row] = layout.row_key(rows_ + row * layout.columns());
        if (layout.is_bad(keys_[row], rows_ + row * layout.columns())) return atomic_min(bad, row);
      }
    });
    if (bad != kNoRow) throw_out_of_range("build_kernel_map", name, printed(bad));
  }

  const CoordKey* data() const { return keys_.get(); }
  int64_t size() const { return count_; }
  CoordRow printed(int64_t row) const { return {row, rows_ + row * layout_.columns(), layout_}; }

 private:
  const int32_t* rows_;
  int64_t count_;
  KeyLayout layout_;
  std::unique_ptr<CoordKey[]> keys_;
};

[[noreturn]] void throw_first_duplicate(const RowKeys& keys) {
  std::unordered_set<CoordKey> seen;
  int64_t row = 0;
  while (keys.data()[row] == kEmptyKey || seen.insert(keys.data()[row]).second) ++row;
  throw_duplicate("build_kernel_map", "in_coords", keys.printed(row));
}

// Looks for the inputs of a block of outputs, tap after tap.
class BlockSearch {
 public:
  BlockSearch(const HashTable& table, const ConvGeometry& geometry, const CoordKey* out, int64_t count)
      : table_(table), geometry_(geometry), out_(out), count_(count) {
    for (int64_t i = 0; i < count; ++i) {
      sees_all_[i] = out[i] != kEmptyKey && geometry.sees_all_taps(out[i], first_[i]);
    }
  }

  // Fill neighbors[0 .. count) with the rows under one tap, or -1, and call found(i, row) for each row.
  template <class F>
  void find(int32_t tap, int32_t* neighbors, const F& found) const {
    const CoordKey offset = geometry_.tap_offset(tap);
    // The outputs for which the filter of the table does not exclude that there is an input.
    CoordKey keys[kRowBlock];
    int64_t places[kRowBlock], candidates[kRowBlock], num_candidates = 0;
    for (int64_t i = 0; i < count_; ++i) {
      const CoordKey key = sees_all_[i] ? first_[i] + offset : geometry_.fine_key(out_[i], tap);  // kEmptyKey for padding
      const int64_t place = table_.place(key);
      neighbors[i] = -1;
      keys[num_candidates] = key;
      places[num_candidates] = place;
      candidates[num_candidates] = i;
      num_candidates += table_.may_hold(place);
    }
    for (int64_t j = 0; j < num_candidates; ++j) table_.prefetch(places[j]);
    for (int64_t j = 0; j < num_candidates; ++j) {
      const int32_t row = table_.find(keys[j], places[j]);
      if (row < 0) continue;
      neighbors[candidates[j]] = row;
      found(candidates[j], row);
    }
  }

 private:
  const HashTable& table_;
  const ConvGeometry& geometry_;
  const CoordKey* out_;
  int64_t count_;
  CoordKey first_[kRowBlock];  // the key under tap 0
  bool sees_all_[kRowBlock];   // whether there is a key under every tap
};

void find_all(const HashTable& table, const ConvGeometry& geometry, const RowKeys& out, int32_t* neighbors) {
  const int64_t num_out = out.size(), volume = geometry.volume();
  parallel_blocks(num_out, kRowBlock, [&](int64_t, int64_t begin, int64_t end) {
    const BlockSearch search(table, geometry, out.data() + begin, end - begin);
    for (int64_t tap = 0; tap < volume; ++tap) {
      search.find(static_cast<int32_t>(tap), neighbors + tap * num_out + begin, [](int64_t, int32_t) {});
    }
  });
}

// A submanifold map is its own mirror image: half the taps are looked up, the other half is written from them. Every mirrored
// entry has one writer, since a row is the neighbour of one row under one tap.
void find_half_and_mirror(const HashTable& table, const ConvGeometry& geometry, const RowKeys& rows, int32_t* neighbors) {
  const int64_t count = rows.size(), volume = geometry.volume(), half = volume / 2;
  int32_t* mirrored = neighbors + (volume - half) * count;
  parallel_rows(half * count, kGrain, [&](int64_t begin, int64_t end) { std::fill(mirrored + begin, mirrored + end, -1); });
  parallel_blocks(count, kRowBlock, [&](int64_t, int64_t begin, int64_t end) {
    const BlockSearch search(table, geometry, rows.data() + begin, end - begin);
    for (int64_t tap = 0; tap < half; ++tap) {
      int32_t* mirror = neighbors + (volume - 1 - tap) * count;
      search.find(static_cast<int32_t>(tap), neighbors + tap * count + begin,
                  [&](int64_t i, int32_t row) { mirror[row] = static_cast<int32_t>(begin + i); });
    }
    if (volume % 2 == 0) return;
    int32_t* centre = neighbors + half * count;  // where each row meets itself
    for (int64_t row = begin; row < end; ++row) centre[row] = rows.data()[row] == kEmptyKey ? -1 : static_cast<int32_t>(row);
  });
}

Tensor build_kernel_map(Tensor in_coords, Tensor out_coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                        std::vector<int64_t> padding, std::vector<int64_t> dilation, bool /*check: costs nothing here*/) {
  constexpr const char* op = "build_kernel_map";
  in_coords = as_contiguous(in_coords);
  out_coords = as_contiguous(out_coords);
  const KeyLayout layout = check_coords(in_coords, op, "in_coords");
  check_coords(out_coords, op, "out_coords");
  check_same_dims(op, in_coords, out_coords);
  const ConvGeometry geometry = make_geometry(op, layout, kernel_size, stride, padding, dilation);
  const RowKeys in(in_coords, layout, "in_coords");
  const HashTable table(in.data(), in.size());
  if (table.has_duplicates()) throw_first_duplicate(in);
  Tensor result = torch::stable::new_empty(in_coords, {geometry.volume(), out_coords.size(0)}, ScalarType::Int);
  auto* neighbors = static_cast<int32_t*>(result.data_ptr());
  prefer_huge_pages(neighbors, result.numel() * sizeof(int32_t));
  const bool is_same = in_coords.data_ptr() == out_coords.data_ptr() && in_coords.size(0) == out_coords.size(0);
  if (is_same && geometry.is_symmetric()) {
    find_half_and_mirror(table, geometry, in, neighbors);
  } else {
    find_all(table, geometry, RowKeys(out_coords, layout, "out_coords"), neighbors);
  }
  return result;
}

Tensor reverse_kernel_map(Tensor neighbors, int64_t num_inputs, bool /*check: costs nothing here*/) {
  constexpr const char* op = "reverse_kernel_map";
  neighbors = as_contiguous(neighbors);
  check_table(neighbors, num_inputs, op);
  const int64_t volume = neighbors.size(0), num_out = neighbors.size(1);
  Tensor result = torch::stable::new_empty(neighbors, {volume, num_inputs}, ScalarType::Int);
  const auto* forward = static_cast<const int32_t*>(neighbors.data_ptr());
  auto* reverse = static_cast<int32_t*>(result.data_ptr());
  std::atomic<int64_t> bad{kNoRow};
  parallel_rows(volume, 1, [&](int64_t first, int64_t last) {
    for (int64_t tap = first; tap < last; ++tap) {
      const int32_t* from = forward + tap * num_out;
      int32_t* to = reverse + tap * num_inputs;
      std::fill(to, to + num_inputs, -1);
      for (int64_t m = 0; m < num_out; ++m) {
        if (from[m] < 0) continue;
        if (from[m] >= num_inputs || to[from[m]] != -1) return atomic_min(bad, tap * num_out + m);
        to[from[m]] = static_cast<int32_t>(m);
      }
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
