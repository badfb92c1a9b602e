// SPDX-License-Identifier: Apache-2.0
// Sorted unique coordinates, and the coordinates that a convolution reaches in either direction.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <limits>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "common/buffer.h"
#include "common/conv_geometry.h"
#include "common/coord_errors.h"
#include "common/parallel.h"
#include "common/radix_sort.h"
#include "common/tensors.h"

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

// Fill what lies behind `count` real rows.
void fill_padding(int32_t* coords, int64_t count, int64_t num_rows, KeyLayout layout) {
  for (int64_t row = count; row < num_rows; ++row) layout.write_padding(coords + row * layout.columns());
}

Tensor flag(const Tensor& like, bool value) {
  Tensor result = torch::stable::new_empty(like, {}, ScalarType::Bool);
  *static_cast<bool*>(result.data_ptr()) = value;
  return result;
}

struct UniqueRows {
  Tensor coords, inverse, counts, incomplete;
};

UniqueRows find_unique(Tensor coords, std::optional<int64_t> capacity) {
  coords = as_contiguous(coords);
  const KeyLayout layout = check_coords(coords, "unique_coords", "coords");
  const int32_t* rows = coords_data(coords);
  const int64_t count = coords.size(0);
  std::unique_ptr<KeyRow[]> items = new_buffer<KeyRow>(count);
  std::atomic<int64_t> bad{kNoRow};
  parallel_rows(count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      items[row] = {layout.row_key(rows + row * layout.columns()), static_cast<int32_t>(row)};
      if (layout.is_bad(items[row].key, rows + row * layout.columns())) atomic_min(bad, row);
    }
  });
  if (bad != kNoRow && !capacity) throw_out_of_range("unique_coords", "coords", {bad, rows + bad * layout.columns(), layout});
  radix_sort(items, count);

  const std::vector<int64_t> runs_before = count_runs(items.get(), count);
  const bool has_padding = count > 0 && items[count - 1].key == kEmptyKey;  // which sorts last
  const int64_t num_unique = runs_before.back() - has_padding, num_rows = capacity.value_or(num_unique);
  UniqueRows result{new_coords(coords, num_rows), torch::stable::new_empty(coords, {count}, ScalarType::Long),
                    torch::stable::new_empty(coords, {num_rows}, ScalarType::Long),
                    flag(coords, bad != kNoRow || num_unique > num_rows)};
  auto* unique = static_cast<int32_t*>(result.coords.data_ptr());
  auto* inverse = static_cast<int64_t*>(result.inverse.data_ptr());
  auto* counts = static_cast<int64_t*>(result.counts.data_ptr());
  std::vector<int64_t> starts(num_unique + 1, count);  // where the run of each begins
  visit_runs(items.get(), count, runs_before, [&](int64_t i, int64_t voxel, bool is_first) {
    inverse[items[i].row] = voxel < std::min(num_unique, num_rows) ? voxel : -1;
    if (is_first) starts[voxel] = i;
    if (is_first && voxel < std::min(num_unique, num_rows)) layout.write_row(items[i].key, unique + voxel * layout.columns());
  });
  for (int64_t voxel = 0; voxel < num_rows; ++voxel) {
    counts[voxel] = voxel < num_unique ? starts[voxel + 1] - starts[voxel] : 0;
  }
  fill_padding(unique, num_unique, num_rows, layout);
  return result;
}

std::tuple<Tensor, Tensor, Tensor> unique_coords(Tensor coords) {
  const UniqueRows rows = find_unique(coords, std::nullopt);
  return {rows.coords, rows.inverse, rows.counts};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> unique_coords_padded(Tensor coords, int64_t capacity) {
  const UniqueRows rows = find_unique(coords, capacity);
  return {rows.coords, rows.inverse, rows.counts, rows.incomplete};
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

// The distinct keys that the rows of `coords` reach within the bounds, sorted; rows that are wrong are left out and the first
// of them is kept in `bad`.
template <Direction direction>
KeySet reached_keys(const Tensor& coords, const ConvGeometry& geometry, const LatticeBounds& bounds, std::atomic<int64_t>& bad) {
  const KeyLayout layout = geometry.layout;
  const int32_t* rows = coords_data(coords);
  const int64_t slots = direction == Direction::kToCoarse ? geometry.max_outputs() : geometry.volume();  // of a row
  const int64_t chunk_rows = std::min(coords.size(0), kChunkKeys / slots);
  const std::unique_ptr<CoordKey[]> chunk = new_buffer<CoordKey>(chunk_rows * slots);
  KeySet keys;
  for (int64_t first = 0; first < coords.size(0); first += chunk_rows) {
    const int64_t num_rows = std::min(chunk_rows, coords.size(0) - first);
    // Each block of rows writes the keys it reaches to its own part of the chunk; then the parts are moved together.
    std::vector<int64_t> offsets(ceil_div(num_rows, kRowBlock) + 1, 0);
    parallel_blocks(num_rows, kRowBlock, [&](int64_t block, int64_t begin, int64_t end) {
      CoordKey* out = &chunk[begin * slots];
      for (int64_t row = first + begin; row < first + end; ++row) {
        const CoordKey key = layout.row_key(rows + row * layout.columns());
        if (layout.is_bad(key, rows + row * layout.columns())) atomic_min(bad, row);
        if (key == kEmptyKey) continue;
        const auto reached = ReachedCoords::from<direction>(key, geometry, bounds);
        if (reached.in_range) {
          reached.visit_keys([&](CoordKey output) { *out++ = output; });
        } else {
          atomic_min(bad, row);
        }
      }
      offsets[block] = out - &chunk[begin * slots];
    });
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

struct Geometry {
  std::vector<int64_t> kernel_size, stride, padding, dilation, output_shape;
};

// The coordinates, and whether some are missing.
template <Direction direction>
std::tuple<Tensor, Tensor> find_reached(const char* op, Tensor coords, const Geometry& values, std::optional<int64_t> capacity) {
  coords = as_contiguous(coords);
  const KeyLayout layout = check_coords(coords, op, "coords");
  const ConvGeometry geometry =
      make_geometry(op, layout, values.kernel_size, values.stride, values.padding, values.dilation);
  std::atomic<int64_t> bad{kNoRow};
  const KeySet keys = reached_keys<direction>(coords, geometry, make_bounds(op, layout, values.output_shape), bad);
  if (bad != kNoRow && !capacity) {
    const CoordRow row{bad, coords_data(coords) + bad * layout.columns(), layout};
    if (layout.row_key(row.values) == kEmptyKey) throw_out_of_range(op, "coords", row);
    throw_output_out_of_range(op, row);
  }
  const int64_t num_rows = capacity.value_or(keys.size());
  Tensor result = new_coords(coords, num_rows);
  auto* out = static_cast<int32_t*>(result.data_ptr());
  parallel_rows(std::min(keys.size(), num_rows), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) layout.write_row(keys.data()[i], out + i * layout.columns());
  });
  fill_padding(out, keys.size(), num_rows, layout);
  return {result, flag(coords, bad != kNoRow || keys.size() > num_rows)};
}

Tensor downsample_coords(Tensor coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                         std::vector<int64_t> padding, std::vector<int64_t> dilation, std::vector<int64_t> output_shape) {
  const Geometry geometry{kernel_size, stride, padding, dilation, output_shape};
  return std::get<0>(find_reached<Direction::kToCoarse>("downsample_coords", coords, geometry, std::nullopt));
}

std::tuple<Tensor, Tensor> downsample_coords_padded(Tensor coords, std::vector<int64_t> kernel_size,
                                                    std::vector<int64_t> stride, std::vector<int64_t> padding,
                                                    std::vector<int64_t> dilation, std::vector<int64_t> output_shape,
                                                    int64_t capacity) {
  const Geometry geometry{kernel_size, stride, padding, dilation, output_shape};
  return find_reached<Direction::kToCoarse>("downsample_coords", coords, geometry, capacity);
}

Tensor upsample_coords(Tensor coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                       std::vector<int64_t> padding, std::vector<int64_t> dilation, std::vector<int64_t> output_shape) {
  const Geometry geometry{kernel_size, stride, padding, dilation, output_shape};
  return std::get<0>(find_reached<Direction::kToFine>("upsample_coords", coords, geometry, std::nullopt));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("unique_coords", TORCH_BOX(&unique_coords));
  m.impl("unique_coords_padded", TORCH_BOX(&unique_coords_padded));
  m.impl("downsample_coords", TORCH_BOX(&downsample_coords));
  m.impl("downsample_coords_padded", TORCH_BOX(&downsample_coords_padded));
  m.impl("upsample_coords", TORCH_BOX(&upsample_coords));
}

}  // namespace pcperc
