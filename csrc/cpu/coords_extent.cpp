// SPDX-License-Identifier: Apache-2.0
// The lowest and the highest value of each column of coords, in one pass over the rows.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <vector>

#include "common/check.h"
#include "common/coord_key.h"
#include "common/parallel.h"
#include "common/tensors.h"
#include "cpu/capability.h"
#include "cpu/vectors.h"

namespace pcperc {
namespace {

constexpr int64_t kGrain = 1 << 16;

using Extent = std::array<int32_t, 2 * (1 + kMaxDims)>;  // the lowest value of each column, then the highest

// Extend `extent` by rows, 4 or 8 of which are a register for each column.
template <int kBytes, int kColumns>
PCPERC_INLINE void include_rows(const int32_t* coords, int64_t begin, int64_t end, Extent& extent) {
  using Vector = Register<int32_t, kBytes>;
  constexpr int64_t kRows = kBytes / sizeof(int32_t);
  Vector low[kColumns], high[kColumns];
  PCPERC_UNROLL
  for (int i = 0; i < kColumns; ++i) low[i] = Vector{} + INT32_MAX, high[i] = Vector{} + INT32_MIN;
  int64_t row = begin;
  for (; row + kRows <= end; row += kRows) {
    PCPERC_UNROLL
    for (int i = 0; i < kColumns; ++i) {
      const Vector values = register_at<kBytes>(coords + row * kColumns + i * kRows);
      low[i] = values < low[i] ? values : low[i];
      high[i] = values > high[i] ? values : high[i];
    }
  }
  int32_t lows[kColumns * kRows], highs[kColumns * kRows];
  PCPERC_UNROLL
  for (int i = 0; i < kColumns; ++i) {
    register_at<kBytes>(lows + i * kRows) = low[i];
    register_at<kBytes>(highs + i * kRows) = high[i];
  }
  const auto include = [&](int64_t place, int32_t least, int32_t most) {
    int32_t &lowest = extent[place % kColumns], &highest = extent[kColumns + place % kColumns];
    lowest = std::min(lowest, least), highest = std::max(highest, most);
  };
  for (int64_t i = 0; i < kColumns * kRows; ++i) include(i, lows[i], highs[i]);
  for (int64_t i = row * kColumns; i < end * kColumns; ++i) include(i, coords[i], coords[i]);
}

template <int kColumns>
void include_rows_base(const int32_t* coords, int64_t begin, int64_t end, Extent& extent) {
  include_rows<16, kColumns>(coords, begin, end, extent);
}
#ifdef PCPERC_X86
template <int kColumns>
PCPERC_TARGET_AVX2 void include_rows_avx2(const int32_t* coords, int64_t begin, int64_t end, Extent& extent) {
  include_rows<32, kColumns>(coords, begin, end, extent);
}
#endif

using IncludeRows = decltype(&include_rows_base<2>);

template <int kColumns>
IncludeRows choose() {
#ifdef PCPERC_X86
  if (cpu_capability() >= Capability::kAvx2) return include_rows_avx2<kColumns>;
#endif
  return include_rows_base<kColumns>;
}

Extent nothing(int64_t columns) {
  Extent extent;
  for (int64_t i = 0; i < 2 * columns; ++i) extent[i] = i < columns ? INT32_MAX : INT32_MIN;
  return extent;
}

std::vector<int64_t> coords_extent(Tensor coords) {
  constexpr const char* op = "coords_extent";
  coords = as_contiguous(coords);
  check_matrix(coords, op, "coords");
  check_dtype(coords, ScalarType::Int, op, "coords");
  const int64_t rows = coords.size(0), columns = coords.size(1);
  STD_TORCH_CHECK(columns >= 2 && columns <= 1 + kMaxDims, op, ": coords must have 2 to 5 columns, got ", columns);
  const IncludeRows include = columns == 2 ? choose<2>() : columns == 3 ? choose<3>() : columns == 4 ? choose<4>() : choose<5>();
  const auto* from = static_cast<const int32_t*>(coords.data_ptr());
  Extent all = nothing(columns);
  std::mutex mutex;
  parallel_rows(rows, kGrain, [&](int64_t begin, int64_t end) {
    Extent extent = nothing(columns);
    include(from, begin, end, extent);
    const std::lock_guard<std::mutex> lock(mutex);
    for (int64_t i = 0; i < 2 * columns; ++i) all[i] = i < columns ? std::min(all[i], extent[i]) : std::max(all[i], extent[i]);
  });
  return {all.begin(), all.begin() + 2 * columns};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) { m.impl("coords_extent", TORCH_BOX(&coords_extent)); }

}  // namespace pcperc
