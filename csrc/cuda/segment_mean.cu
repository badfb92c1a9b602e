// SPDX-License-Identifier: Apache-2.0
// Means of segments of few rows.
#include "segment_mean.h"

#include <torch/csrc/stable/library.h>

#include "common/dispatch.h"
#include "common/launch.cuh"

namespace pcperc {
namespace {

// One thread a (segment, channel), which walks the rows of the segment in order.
template <class T>
__global__ void segment_mean_kernel(const T* feats, MeanSegments s, int64_t num_rows, int64_t channels, T* mean) {
  PCPERC_GRID_LOOP(index, s.size * channels) {
    const int64_t i = index / channels, c = index % channels;
    const EntryRange range = s.entries(i);
    PartedSum<Accumulator<T>> sum;
    for (int64_t j = range.begin; j < range.end; ++j) {
      if (!is_index(s.order[j], num_rows)) continue;
      sum.add(static_cast<Accumulator<T>>(feats[static_cast<int64_t>(s.order[j]) * channels + c]));
    }
    mean[index] = static_cast<T>(sum.value() / static_cast<Accumulator<T>>(s.divisor(i)));
  }
}

// As above; a row is in one segment at the most, so it has one writer.
template <class T>
__global__ void segment_mean_backward_kernel(const T* grad, MeanSegments s, int64_t num_rows, int64_t channels, T* feats_grad) {
  PCPERC_GRID_LOOP(index, s.size * channels) {
    const int64_t i = index / channels, c = index % channels;
    const EntryRange range = s.entries(i);
    const T share = static_cast<T>(static_cast<Accumulator<T>>(grad[index]) / static_cast<Accumulator<T>>(s.divisor(i)));
    for (int64_t j = range.begin; j < range.end; ++j) {
      if (is_index(s.order[j], num_rows)) feats_grad[static_cast<int64_t>(s.order[j]) * channels + c] = share;
    }
  }
}

Tensor segment_mean(const Tensor& feats, const Tensor& order, const Tensor& starts, const Tensor& counts) {
  const MeanSegments s = check_mean_segments(feats, order, starts, counts, "segment_mean");
  check_one_device("segment_mean", {feats, order, starts, counts});
  const int64_t channels = feats.size(1);
  const CudaScope scope(feats);
  const Tensor out = empty_on(feats, {s.size, channels}, feats.scalar_type());
  if (out.numel() == 0) return out;
  dispatch_float(feats.scalar_type(), "segment_mean", [&](auto zero) {
    using T = decltype(zero);
    segment_mean_kernel<<<grid_size(out.numel()), kThreads, 0, scope.stream()>>>(
        feats.const_data_ptr<T>(), s, feats.size(0), channels, out.mutable_data_ptr<T>());
  });
  PCPERC_LAUNCH_CHECK();
  return out;
}

Tensor segment_mean_backward(const Tensor& grad, const Tensor& order, const Tensor& starts, const Tensor& counts,
                             int64_t num_rows) {
  const MeanSegments s = check_mean_segments(grad, order, starts, counts, "segment_mean_backward");
  check_mean_grad(grad, s, "segment_mean_backward");
  check_one_device("segment_mean_backward", {grad, order, starts, counts});
  const int64_t channels = grad.size(1);
  const CudaScope scope(grad);
  const Tensor out = torch::stable::new_zeros(grad, {num_rows, channels});
  if (grad.numel() == 0 || out.numel() == 0) return out;
  dispatch_float(grad.scalar_type(), "segment_mean_backward", [&](auto zero) {
    using T = decltype(zero);
    segment_mean_backward_kernel<<<grid_size(grad.numel()), kThreads, 0, scope.stream()>>>(
        grad.const_data_ptr<T>(), s, num_rows, channels, out.mutable_data_ptr<T>());
  });
  PCPERC_LAUNCH_CHECK();
  return out;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("segment_mean", TORCH_BOX(&pcperc::segment_mean));
  m.impl("segment_mean_backward", TORCH_BOX(&pcperc::segment_mean_backward));
}
