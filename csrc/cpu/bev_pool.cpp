// SPDX-License-Identifier: Apache-2.0
// out[target[i]] = sum over the entries j of segment i of weight[point[j]] * feats[source[j]], and the gradient of weight.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <vector>

#include "bev_pool.h"
#include "common/dispatch.h"
#include "common/parallel.h"
#include "cpu/dot.h"

namespace pcperc {
namespace {

Tensor bev_pool(const Tensor& feats, const std::optional<Tensor>& weight, const std::vector<Tensor>& segments,
                const std::vector<Tensor>& /* backward_segments */, int64_t num_targets) {
  const PoolSegments s = check_segments(feats, weight, segments, "bev_pool");
  const int64_t channels = feats.size(1), num_sources = feats.size(0), num_weights = weight ? weight->size(0) : 0;
  Tensor out = torch::stable::new_zeros(feats, {num_targets, channels});
  dispatch_float(feats.scalar_type(), "bev_pool", [&](auto zero) {
    using T = decltype(zero);
    const T* in = feats.const_data_ptr<T>();
    const T* w = weight ? weight->const_data_ptr<T>() : nullptr;
    T* pooled = out.mutable_data_ptr<T>();
    parallel_rows(s.num_segments, 64, [&](int64_t begin, int64_t end) {
      std::vector<Accumulator<T>> sum(channels);
      for (int64_t i = begin; i < end; ++i) {
        if (!is_index(s.target[i], num_targets)) continue;
        sum.assign(channels, Accumulator<T>(0));
        const EntryRange range = s.entries(i);
        for (int64_t j = range.begin; j < range.end; ++j) {
          if (!is_index(s.source[j], num_sources) || (w && !is_index(s.point[j], num_weights))) continue;
          const T* row = in + static_cast<int64_t>(s.source[j]) * channels;
          const Accumulator<T> factor = w ? static_cast<Accumulator<T>>(w[s.point[j]]) : Accumulator<T>(1);
          for (int64_t c = 0; c < channels; ++c) sum[c] += factor * static_cast<Accumulator<T>>(row[c]);
        }
        T* target = pooled + s.target[i] * channels;
        for (int64_t c = 0; c < channels; ++c) target[c] = static_cast<T>(sum[c]);
      }
    });
  });
  return out;
}

Tensor bev_pool_weight_grad(const Tensor& grad, const Tensor& feats, const std::vector<Tensor>& backward_segments,
                            int64_t num_points) {
  const PoolSegments s = check_segments(grad, std::nullopt, backward_segments, "bev_pool_weight_grad");
  check_weight_grad(grad, feats);
  const int64_t channels = feats.size(1), num_rows = feats.size(0), num_cells = grad.size(0);
  Tensor out = torch::stable::new_zeros(grad, {num_points});
  dispatch_float(feats.scalar_type(), "bev_pool_weight_grad", [&](auto zero) {
    using T = decltype(zero);
    const T* g = grad.const_data_ptr<T>();
    const T* in = feats.const_data_ptr<T>();
    T* d = out.mutable_data_ptr<T>();
    parallel_rows(s.num_segments, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if (!is_index(s.target[i], num_rows)) continue;
        const T* row = in + s.target[i] * channels;
        const EntryRange range = s.entries(i);
        for (int64_t j = range.begin; j < range.end; ++j) {
          if (!is_index(s.source[j], num_cells) || !is_index(s.point[j], num_points)) continue;
          d[s.point[j]] = static_cast<T>(dot(row, g + static_cast<int64_t>(s.source[j]) * channels, channels));
        }
      }
    });
  });
  return out;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("bev_pool", TORCH_BOX(&pcperc::bev_pool));
  m.impl("bev_pool_weight_grad", TORCH_BOX(&pcperc::bev_pool_weight_grad));
}
