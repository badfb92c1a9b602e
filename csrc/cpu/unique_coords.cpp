// SPDX-License-Identifier: Apache-2.0
// Sorted unique coordinates, and the coordinates that a convolution reaches in either direction.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <limits>
#include <memory>
#include <tuple>
#include <vector>

#include "common/buffer.h"
#include "common/conv_geometry.h"
#include "common/coord_errors.h"
#include "common/parallel.h"
#include "common/radix_sort.h"

namespace pcperc {
namespace {

constexpr int64_t kGrain = 4096;
constexpr int64_t kRowBlock = 1024;
constexpr int64_t kChunkKeys = int64_t{1} << 24;  // keys held unsorted at the least; more than that repeat each other
constexpr int64_t kNoRow = std::numeric_limits<int64_t>::max();

const int32_t* coords_data(const Tensor& coords) { return static_cast<const int32_t*>(coords.data_ptr()); }

Tensor new_coords(const Tensor& like, int64_t rows) {
  return torch::stable::new_empty(like, {rows, like.size(1)}, ScalarType::Int);
}

std::tuple<Tensor, Tensor, Tensor> unique_coords(Tensor coords) {
  coords = torch::stable::contiguous(coords);
  const KeyLayout layout = check_coords(coords, "unique_coords", "coords");
  const int32_t* rows = coords_data(coords);
  const int64_t count = coords.size(0);
  std::unique_ptr<KeyRow[]> items = new_buffer<KeyRow>(count);
  std::atomic<int64_t> bad{kNoRow};
  parallel_rows(count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      items[row] = {layout.row_key(rows + row * layout.columns()), static_cast<int32_t>(row)};
      if (items[row].key == kEmptyKey) return atomic_min(bad, row);
    }
  });
  if (bad != kNoRow) throw_out_of_range("unique_coords", "coords", {bad, rows + bad * layout.columns(), layout});
  radix_sort(items, count);

  const std::vector<int64_t> runs_before = count_runs(items.get(), count);
  const int64_t num_unique = runs_before.back();
  Tensor unique = new_coords(coords, num_unique);
  Tensor inverse = torch::stable::new_empty(coords, {count}, ScalarType::Long);
  Tensor counts = torch::stable::new_empty(coords, {num_unique}, ScalarType::Long);
  auto* unique_data = static_cast<int32_t*>(unique.data_ptr());
  auto* inverse_data = static_cast<int64_t*>(inverse.data_ptr());
  auto* counts_data = static_cast<int64_t*>(counts.data_ptr());
  visit_runs(items.get(), count, runs_before, [&](int64_t i, int64_t voxel, bool is_first) {
    inverse_data[items[i].row] = voxel;
    if (!is_first) return;
    layout.write_row(items[i].key, unique_data + voxel * layout.columns());
    counts_data[voxel] = i;  // where its run begins, until the loop below
  });
  for (int64_t voxel = 0; voxel < num_unique; ++voxel) {
    counts_data[voxel] = (voxel + 1 < num_unique ? counts_data[voxel + 1] : count) - counts_data[voxel];
  }
  return {unique, inverse, counts};
}

// A growing set of keys. Those added last wait unsorted, as many as the set has distinct ones at the least, so that memory
// stays in proportion to the set however often keys are repeated.
class KeySet {
 public:
  // Make room for `extra` keys and return where to write them.
  CoordKey* extend(int64_t extra) {
    if (size_ + extra > capacity_) {
      sort();
      capacity_ = size_ + std::max(size_, extra);
      std::unique_ptr<CoordKey[]> larger = new_buffer<CoordKey>(capacity_);
      std::copy(keys_.get(), keys_.get() + size_, larger.get());
      keys_.swap(larger);
    }
    return keys_.get() + std::exchange(size_, size_ + extra);
  }

  // Sort the keys and drop the repeated ones.
  void sort() {
    radix_sort(keys_, size_);
    size_ = std::unique(keys_.get(), keys_.get() + size_) - keys_.get();
  }

  const CoordKey* data() const { return keys_.get(); }
  int64_t size() const { return size_; }

 private:
  std::unique_ptr<CoordKey[]> keys_;
  int64_t size_ = 0, capacity_ = 0;
};

// The distinct keys that the rows of `coords` reach within the bounds, sorted.
template <Direction direction>
KeySet reached_keys(const char* op, const Tensor& coords, const ConvGeometry& geometry, const LatticeBounds& bounds) {
  const KeyLayout layout = geometry.layout;
  const int32_t* rows = coords_data(coords);
  const int64_t slots = direction == Direction::kToCoarse ? geometry.max_outputs() : geometry.volume();  // of a row
  const int64_t chunk_rows = std::min(coords.size(0), kChunkKeys / slots);
  const std::unique_ptr<CoordKey[]> chunk = new_buffer<CoordKey>(chunk_rows * slots);
  std::atomic<int64_t> bad{kNoRow};
  KeySet keys;
  for (int64_t first = 0; first < coords.size(0); first += chunk_rows) {
    const int64_t num_rows = std::min(chunk_rows, coords.size(0) - first);
    // Each block of rows writes the keys it reaches to its own part of the chunk; then the parts are moved together.
    std::vector<int64_t> offsets(ceil_div(num_rows, kRowBlock) + 1, 0);
    parallel_blocks(num_rows, kRowBlock, [&](int64_t block, int64_t begin, int64_t end) {
      CoordKey* out = &chunk[begin * slots];
      for (int64_t row = first + begin; row < first + end; ++row) {
        const CoordKey key = layout.row_key(rows + row * layout.columns());
        const auto reached = ReachedCoords::from<direction>(key, geometry, bounds);
        if (key == kEmptyKey || !reached.in_range) return atomic_min(bad, row);
        reached.write_keys(out);
        out += reached.total;
      }
      offsets[block] = out - &chunk[begin * slots];
    });
    if (bad != kNoRow) {
      const CoordRow row{bad, rows + bad * layout.columns(), layout};
      if (layout.row_key(row.values) == kEmptyKey) throw_out_of_range(op, "coords", row);
      throw_output_out_of_range(op, row);
    }
    int64_t total = 0;
    for (int64_t& size : offsets) total += std::exchange(size, total);
    CoordKey* out = keys.extend(total);
    parallel_blocks(num_rows, kRowBlock, [&](int64_t block, int64_t begin, int64_t) {
      std::copy_n(&chunk[begin * slots], offsets[block + 1] - offsets[block], out + offsets[block]);
    });
  }
  keys.sort();
  return keys;
}

template <Direction direction>
Tensor reached_coords(const char* op, Tensor coords, const std::vector<int64_t>& kernel_size,
                      const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
                      const std::vector<int64_t>& dilation, const std::vector<int64_t>& output_shape) {
  coords = torch::stable::contiguous(coords);
  const KeyLayout layout = check_coords(coords, op, "coords");
  const ConvGeometry geometry = make_geometry(op, layout, kernel_size, stride, padding, dilation);
  const KeySet keys = reached_keys<direction>(op, coords, geometry, make_bounds(op, layout, output_shape));
  Tensor result = new_coords(coords, keys.size());
  auto* out = static_cast<int32_t*>(result.data_ptr());
  parallel_rows(keys.size(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) layout.write_row(keys.data()[i], out + i * layout.columns());
  });
  return result;
}

Tensor downsample_coords(Tensor coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                         std::vector<int64_t> padding, std::vector<int64_t> dilation, std::vector<int64_t> output_shape) {
  return reached_coords<Direction::kToCoarse>("downsample_coords", coords, kernel_size, stride, padding, dilation,
                                              output_shape);
}

Tensor upsample_coords(Tensor coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                       std::vector<int64_t> padding, std::vector<int64_t> dilation, std::vector<int64_t> output_shape) {
  return reached_coords<Direction::kToFine>("upsample_coords", coords, kernel_size, stride, padding, dilation, output_shape);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("unique_coords", TORCH_BOX(&unique_coords));
  m.impl("downsample_coords", TORCH_BOX(&downsample_coords));
  m.impl("upsample_coords", TORCH_BOX(&upsample_coords));
}

}  // namespace pcperc
