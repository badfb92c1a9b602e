// SPDX-License-Identifier: Apache-2.0
// out[p] = sum over j of weights[p, j] * feats[rows[p, j]]; its adjoint, along rows grouped by value; the gradient of weights.
#include "common/tensors.h"
#include "weighted_gather.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <vector>

#include "common/dispatch.h"
#include "common/parallel.h"
#include "cpu/dot.h"

namespace pcperc {
namespace {

constexpr int64_t kGrain = 64;

Tensor weighted_gather(Tensor feats, Tensor rows, Tensor weights, const std::optional<Tensor>& /* order */,
                       const std::optional<Tensor>& /* starts */) {
  constexpr const char* op = "weighted_gather";
  feats = as_contiguous(feats), rows = as_contiguous(rows);
  weights = as_contiguous(weights);
  const GatherSizes s = check_gather(op, rows, feats, "feats");
  check_weights(op, weights, s, feats.scalar_type());
  Tensor result = torch::stable::new_empty(feats, {s.num_points, s.channels});
  const int32_t* row_of = rows.const_data_ptr<int32_t>();
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const T* in = feats.const_data_ptr<T>();
    const A* w = weights.const_data_ptr<A>();
    T* out = result.mutable_data_ptr<T>();
    parallel_rows(s.num_points, kGrain, [&](int64_t begin, int64_t end) {
      std::vector<A> sums(s.channels);
      for (int64_t p = begin; p < end; ++p) {
        sums.assign(s.channels, A(0));
        for (int64_t e = p * s.per_point; e < (p + 1) * s.per_point; ++e) {
          if (!is_index(row_of[e], s.num_rows)) continue;
          const T* row = in + row_of[e] * s.channels;
          for (int64_t c = 0; c < s.channels; ++c) sums[c] += w[e] * static_cast<A>(row[c]);
        }
        for (int64_t c = 0; c < s.channels; ++c) out[p * s.channels + c] = static_cast<T>(sums[c]);
      }
    });
  });
  return result;
}

Tensor weighted_scatter(Tensor grad, Tensor rows, Tensor weights, const Tensor& order, const Tensor& starts) {
  constexpr const char* op = "weighted_scatter";
  grad = as_contiguous(grad), rows = as_contiguous(rows);
  weights = as_contiguous(weights);
  const GatherSizes s = check_scatter(op, grad, rows, order, starts);
  check_weights(op, weights, s, grad.scalar_type());
  Tensor result = torch::stable::new_empty(grad, {s.num_rows, s.channels});
  const int32_t *entry = order.const_data_ptr<int32_t>(), *start = starts.const_data_ptr<int32_t>();
  const int64_t num_entries = rows.numel();
  dispatch_float(grad.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const T* g = grad.const_data_ptr<T>();
    const A* w = weights.const_data_ptr<A>();
    T* out = result.mutable_data_ptr<T>();
    parallel_rows(s.num_rows, kGrain, [&](int64_t begin, int64_t end) {
      std::vector<A> sums(s.channels);
      for (int64_t m = begin; m < end; ++m) {
        sums.assign(s.channels, A(0));
        const EntryRange range = entries_within(start[m], start[m + 1], num_entries);
        for (int64_t j = range.begin; j < range.end; ++j) {
          const int64_t e = entry[j];
          if (!is_index(e, num_entries)) continue;
          const T* row = g + e / s.per_point * s.channels;
          for (int64_t c = 0; c < s.channels; ++c) sums[c] += w[e] * static_cast<A>(row[c]);
        }
        for (int64_t c = 0; c < s.channels; ++c) out[m * s.channels + c] = static_cast<T>(sums[c]);
      }
    });
  });
  return result;
}

Tensor weighted_gather_dot(Tensor grad, Tensor feats, Tensor rows, const std::optional<Tensor>& /* order */,
                           const std::optional<Tensor>& /* starts */) {
  constexpr const char* op = "weighted_gather_dot";
  grad = as_contiguous(grad), feats = as_contiguous(feats);
  rows = as_contiguous(rows);
  const GatherSizes s = check_gather(op, rows, feats, "feats");
  check_rows_of(op, "grad", grad, s.num_points, s.channels);
  check_dtype(grad, feats.scalar_type(), op, "grad");
  Tensor result = torch::stable::new_empty(feats, {s.num_points, s.per_point}, accumulator_dtype(feats.scalar_type()));
  const int32_t* row_of = rows.const_data_ptr<int32_t>();
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const T *g = grad.const_data_ptr<T>(), *in = feats.const_data_ptr<T>();
    A* out = result.mutable_data_ptr<A>();
    parallel_rows(s.num_points, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t e = begin * s.per_point; e < end * s.per_point; ++e) {
        const bool is_present = is_index(row_of[e], s.num_rows);
        out[e] = is_present ? dot(g + e / s.per_point * s.channels, in + row_of[e] * s.channels, s.channels) : A(0);
      }
    });
  });
  return result;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("weighted_gather", TORCH_BOX(&pcperc::weighted_gather));
  m.impl("weighted_scatter", TORCH_BOX(&pcperc::weighted_scatter));
  m.impl("weighted_gather_dot", TORCH_BOX(&pcperc::weighted_gather_dot));
}
