// SPDX-License-Identifier: Apache-2.0
// Reductions over long segments of rows, and what is spread back over their rows.
#include "common/tensors.h"
#include "segment_reduce.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <tuple>
#include <vector>

#include "common/dispatch.h"
#include "common/parallel.h"

namespace pcperc {
namespace {

constexpr int64_t kGrain = 256;

Tensor segment_dot(Tensor feats, std::optional<Tensor> factor, const Tensor& index, const Tensor& order,
                   const Tensor& starts) {
  constexpr const char* op = "segment_dot";
  feats = as_contiguous(feats);
  if (factor) factor = as_contiguous(*factor);
  const LongSegments s = check_dot(op, feats, factor, index, order, starts);
  const int64_t channels = feats.size(1);
  Tensor result = torch::stable::new_zeros(feats, {s.count, channels}, accumulator_dtype(feats.scalar_type()));
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const T* x = feats.const_data_ptr<T>();
    const T* y = factor ? factor->const_data_ptr<T>() : nullptr;
    std::vector<A> partial(s.num_slots() * channels, A(0));
    parallel_rows(s.num_slots(), 1, [&](int64_t first, int64_t last) {
      for (int64_t slot = first; slot < last; ++slot) {
        A* sums = partial.data() + slot * channels;
        const EntryRange range = s.chunk(slot);
        for (int64_t j = range.begin; j < range.end; ++j) {
          if (!is_index(s.order[j], s.num_rows)) continue;
          const int64_t row = s.order[j] * channels;
          if (y) {
            for (int64_t c = 0; c < channels; ++c) sums[c] += static_cast<A>(x[row + c]) * static_cast<A>(y[row + c]);
          } else {
            for (int64_t c = 0; c < channels; ++c) sums[c] += static_cast<A>(x[row + c]);
          }
        }
      }
    });
    A* out = result.mutable_data_ptr<A>();
    for (int64_t i = 0; i < s.count; ++i) {
      const A* sums = partial.data() + s.first_slot(i) * channels;
      for (int64_t chunk = 0; chunk < s.num_chunks(i); ++chunk, sums += channels) {
        for (int64_t c = 0; c < channels; ++c) out[i * channels + c] += sums[c];
      }
    }
  });
  return result;
}

// Keep the larger of what is there and what comes: of equals what is there, NaN before all numbers; row -1 is nothing.
template <class T, class A, class Row>
void take_max(const T* values, const Row& row_of, int64_t channels, A* best, int32_t* best_row) {
  for (int64_t c = 0; c < channels; ++c) {
    const A value = static_cast<A>(values[c]);
    const int32_t row = row_of(c);
    const bool is_larger = value > best[c] || (value != value && best[c] == best[c]);
    const bool replaces = row >= 0 && (best_row[c] < 0 || is_larger);
    best[c] = replaces ? value : best[c];
    best_row[c] = replaces ? row : best_row[c];
  }
}

std::tuple<Tensor, Tensor> segment_max(Tensor feats, const Tensor& index, const Tensor& order, const Tensor& starts) {
  constexpr const char* op = "segment_max";
  feats = as_contiguous(feats);
  const LongSegments s = check_dot(op, feats, std::nullopt, index, order, starts);
  const int64_t channels = feats.size(1);
  Tensor values = torch::stable::new_empty(feats, {s.count, channels});
  Tensor rows = torch::stable::new_empty(feats, {s.count, channels}, ScalarType::Int);
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const T* x = feats.const_data_ptr<T>();
    T* out = values.mutable_data_ptr<T>();
    int32_t* from = rows.mutable_data_ptr<int32_t>();
    std::vector<A> best(s.num_slots() * channels, A(0));
    std::vector<int32_t> best_row(s.num_slots() * channels, -1);
    parallel_rows(s.num_slots(), 1, [&](int64_t first, int64_t last) {
      for (int64_t slot = first; slot < last; ++slot) {
        const EntryRange range = s.chunk(slot);
        for (int64_t j = range.begin; j < range.end; ++j) {
          if (!is_index(s.order[j], s.num_rows)) continue;
          take_max(x + s.order[j] * channels, [&](int64_t) { return s.order[j]; }, channels, &best[slot * channels],
                   &best_row[slot * channels]);
        }
      }
    });
    for (int64_t i = 0; i < s.count; ++i) {
      std::vector<A> value(channels, A(0));
      std::fill_n(from + i * channels, channels, -1);
      for (int64_t chunk = 0; chunk < s.num_chunks(i); ++chunk) {
        const int64_t slot = (s.first_slot(i) + chunk) * channels;
        take_max(&best[slot], [&](int64_t c) { return best_row[slot + c]; }, channels, value.data(), from + i * channels);
      }
      for (int64_t c = 0; c < channels; ++c) out[i * channels + c] = static_cast<T>(value[c]);
    }
  });
  return {values, rows};
}

Tensor segment_affine(std::optional<Tensor> feats, std::optional<Tensor> scale, std::optional<Tensor> shift,
                      const Tensor& index, const Tensor& order, const Tensor& starts) {
  constexpr const char* op = "segment_affine";
  const LongSegments s = check_long_segments(op, index, order, starts);
  const int64_t channels = check_affine(op, feats, scale, shift, s);
  const Tensor& like = feats ? *feats : *shift;
  Tensor result = torch::stable::new_empty(like, {s.num_rows, channels});
  dispatch_float(like.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const T* x = feats ? feats->const_data_ptr<T>() : nullptr;
    const A* a = scale ? scale->const_data_ptr<A>() : nullptr;
    const A* b = shift ? shift->const_data_ptr<A>() : nullptr;
    T* out = result.mutable_data_ptr<T>();
    parallel_rows(s.num_rows, kGrain, [&](int64_t begin, int64_t end) {
      const std::vector<A> ones(channels, A(1)), zeros(channels, A(0));
      for (int64_t m = begin; m < end; ++m) {
        const int64_t i = s.index[m];
        T* y = out + m * channels;
        if (!is_index(i, s.count)) {
          std::fill_n(y, channels, zero);
          continue;
        }
        const A* scales = a ? a + i * channels : ones.data();
        const A* shifts = b ? b + i * channels : zeros.data();
        for (int64_t c = 0; c < channels; ++c) {
          y[c] = static_cast<T>(x ? static_cast<A>(x[m * channels + c]) * scales[c] + shifts[c] : shifts[c]);
        }
      }
    });
  });
  return result;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("segment_dot", TORCH_BOX(&pcperc::segment_dot));
  m.impl("segment_max", TORCH_BOX(&pcperc::segment_max));
  m.impl("segment_affine", TORCH_BOX(&pcperc::segment_affine));
}
