// SPDX-License-Identifier: Apache-2.0
// out[target[i]] = sum over the entries j of segment i of weight[point[j]] * feats[source[j]], and the gradient of weight.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/Dispatch_v2.h>

#include <optional>
#include <type_traits>
#include <vector>

#include "bev_pool.h"
#include "common/parallel.h"

namespace pcperc {
namespace {

template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;

Tensor bev_pool(const Tensor& feats, const std::optional<Tensor>& weight, const std::vector<Tensor>& segments,
                const std::vector<Tensor>& /* backward_segments */, int64_t num_targets) {
  const PoolSegments s = check_segments(feats, weight, segments, "bev_pool");
  const int64_t channels = feats.size(1), num_sources = feats.size(0);
  Tensor out = torch::stable::new_zeros(feats, {num_targets, channels});
  THO_DISPATCH_V2(feats.scalar_type(), "bev_pool", AT_WRAP([&] {
                    using acc_t = Accumulator<scalar_t>;
                    const scalar_t* in = feats.const_data_ptr<scalar_t>();
                    const scalar_t* w = weight ? weight->const_data_ptr<scalar_t>() : nullptr;
                    scalar_t* pooled = out.mutable_data_ptr<scalar_t>();
                    parallel_rows(s.num_segments, 64, [&](int64_t begin, int64_t end) {
                      std::vector<acc_t> sum(channels);
                      for (int64_t i = begin; i < end; ++i) {
                        if (s.target[i] < 0 || s.target[i] >= num_targets) continue;
                        sum.assign(channels, acc_t(0));
                        for (int32_t j = s.starts[i]; j < s.starts[i + 1]; ++j) {
                          if (s.source[j] < 0 || s.source[j] >= num_sources) continue;
                          const scalar_t* row = in + static_cast<int64_t>(s.source[j]) * channels;
                          const acc_t factor = w ? static_cast<acc_t>(w[s.point[j]]) : acc_t(1);
                          for (int64_t c = 0; c < channels; ++c) sum[c] += factor * static_cast<acc_t>(row[c]);
                        }
                        scalar_t* target = pooled + s.target[i] * channels;
                        for (int64_t c = 0; c < channels; ++c) target[c] = static_cast<scalar_t>(sum[c]);
                      }
                    });
                  }),
                  AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
  return out;
}

Tensor bev_pool_weight_grad(const Tensor& grad, const Tensor& feats, const std::vector<Tensor>& backward_segments,
                            int64_t num_points) {
  const PoolSegments s = check_segments(grad, std::nullopt, backward_segments, "bev_pool_weight_grad");
  check_matrix(feats, "bev_pool_weight_grad", "feats");
  check_dtype(feats, grad.scalar_type(), "bev_pool_weight_grad", "feats");
  const int64_t channels = feats.size(1), num_rows = feats.size(0), num_cells = grad.size(0);
  STD_TORCH_CHECK(grad.size(1) == channels, "bev_pool_weight_grad: grad and feats must have the same channels");
  Tensor out = torch::stable::new_zeros(grad, {num_points});
  THO_DISPATCH_V2(feats.scalar_type(), "bev_pool_weight_grad", AT_WRAP([&] {
                    using acc_t = Accumulator<scalar_t>;
                    const scalar_t* g = grad.const_data_ptr<scalar_t>();
                    const scalar_t* in = feats.const_data_ptr<scalar_t>();
                    scalar_t* d = out.mutable_data_ptr<scalar_t>();
                    parallel_rows(s.num_segments, 64, [&](int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i) {
                        if (s.target[i] < 0 || s.target[i] >= num_rows) continue;
                        const scalar_t* row = in + s.target[i] * channels;
                        for (int32_t j = s.starts[i]; j < s.starts[i + 1]; ++j) {
                          if (s.source[j] < 0 || s.source[j] >= num_cells) continue;
                          const scalar_t* cell = g + static_cast<int64_t>(s.source[j]) * channels;
                          acc_t dot = 0;
                          for (int64_t c = 0; c < channels; ++c) {
                            dot += static_cast<acc_t>(row[c]) * static_cast<acc_t>(cell[c]);
                          }
                          d[s.point[j]] = static_cast<scalar_t>(dot);
                        }
                      }
                    });
                  }),
                  AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
  return out;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("bev_pool", TORCH_BOX(&pcperc::bev_pool));
  m.impl("bev_pool_weight_grad", TORCH_BOX(&pcperc::bev_pool_weight_grad));
}
