// SPDX-License-Identifier: Apache-2.0
// Means of segments of few rows: one task walks the rows of a segment, channel by channel.
#include "segment_mean.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "common/dispatch.h"
#include "common/parallel.h"

namespace pcperc {
namespace {

constexpr int64_t kGrain = 4096;

Tensor segment_mean(const Tensor& feats, const Tensor& order, const Tensor& starts, const Tensor& counts) {
  const MeanSegments s = check_mean_segments(feats, order, starts, counts, "segment_mean");
  const int64_t channels = feats.size(1), num_rows = feats.size(0);
  Tensor out = torch::stable::new_empty(feats, {s.size, channels});
  dispatch_float(feats.scalar_type(), "segment_mean", [&](auto zero) {
    using T = decltype(zero);
    const T* in = feats.const_data_ptr<T>();
    T* mean = out.mutable_data_ptr<T>();
    parallel_rows(s.size, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const EntryRange range = s.entries(i);
        for (int64_t c = 0; c < channels; ++c) {
          PartedSum<Accumulator<T>> sum;
          for (int64_t j = range.begin; j < range.end; ++j) {
            if (!is_index(s.order[j], num_rows)) continue;
            sum.add(static_cast<Accumulator<T>>(in[static_cast<int64_t>(s.order[j]) * channels + c]));
          }
          mean[i * channels + c] = static_cast<T>(sum.value() / static_cast<Accumulator<T>>(s.divisor(i)));
        }
      }
    });
  });
  return out;
}

Tensor segment_mean_backward(const Tensor& grad, const Tensor& order, const Tensor& starts, const Tensor& counts,
                             int64_t num_rows) {
  const MeanSegments s = check_mean_segments(grad, order, starts, counts, "segment_mean_backward");
  check_mean_grad(grad, s, "segment_mean_backward");
  const int64_t channels = grad.size(1);
  Tensor out = torch::stable::new_zeros(grad, {num_rows, channels});
  dispatch_float(grad.scalar_type(), "segment_mean_backward", [&](auto zero) {
    using T = decltype(zero);
    const T* g = grad.const_data_ptr<T>();
    T* d = out.mutable_data_ptr<T>();
    parallel_rows(s.size, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const EntryRange range = s.entries(i);
        for (int64_t j = range.begin; j < range.end; ++j) {
          if (!is_index(s.order[j], num_rows)) continue;
          for (int64_t c = 0; c < channels; ++c) {
            d[static_cast<int64_t>(s.order[j]) * channels + c] = static_cast<T>(
                static_cast<Accumulator<T>>(g[i * channels + c]) / static_cast<Accumulator<T>>(s.divisor(i)));
          }
        }
      }
    });
  });
  return out;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("segment_mean", TORCH_BOX(&pcperc::segment_mean));
  m.impl("segment_mean_backward", TORCH_BOX(&pcperc::segment_mean_backward));
}
