// SPDX-License-Identifier: Apache-2.0
// Pooling along a neighbour table: sums, means by counts of neighbours, maxima and the rows they came from. Every row is
// computed on its own, in the order of the taps, so results do not depend on the number of threads.
#include "common/tensors.h"
#include "sparse_pool.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <tuple>
#include <vector>

#include "common/dispatch.h"
#include "common/parallel.h"

namespace pcperc {
namespace {

constexpr int64_t kGrain = 64;

Tensor neighbor_counts(Tensor neighbors, int64_t num_inputs) {
  neighbors = as_contiguous(neighbors);
  check_int_matrix(neighbors, "neighbor_counts", "neighbors");
  const int64_t volume = neighbors.size(0), num_out = neighbors.size(1);
  const int32_t* table = neighbors.const_data_ptr<int32_t>();
  Tensor counts = torch::stable::new_zeros(neighbors, {num_out});
  int32_t* out = counts.mutable_data_ptr<int32_t>();
  parallel_rows(num_out, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t tap = 0; tap < volume; ++tap) {
      for (int64_t m = begin; m < end; ++m) out[m] += is_index(table[tap * num_out + m], num_inputs);
    }
  });
  return counts;
}

template <class T>
void add_row(const T* row, int32_t count, int64_t channels, Accumulator<T>* sums) {
  const auto by = static_cast<Accumulator<T>>(count);
  for (int64_t c = 0; c < channels; ++c) sums[c] += static_cast<Accumulator<T>>(row[c]) / by;
}

template <class T>
void add_row(const T* row, int64_t channels, Accumulator<T>* sums) {
  for (int64_t c = 0; c < channels; ++c) sums[c] += static_cast<Accumulator<T>>(row[c]);
}

Tensor sparse_sum_pool(Tensor feats, Tensor neighbors, const std::optional<Tensor>& /* reverse_neighbors */,
                       const std::optional<Tensor>& in_counts, const std::optional<Tensor>& out_counts) {
  constexpr const char* op = "sparse_sum_pool";
  feats = as_contiguous(feats), neighbors = as_contiguous(neighbors);
  const PoolSizes s = check_pool(op, feats, neighbors);
  const int32_t* in_count = check_counts(op, "in_counts", in_counts, s.num_in);
  const int32_t* out_count = check_counts(op, "out_counts", out_counts, s.num_out);
  const int32_t* table = neighbors.const_data_ptr<int32_t>();
  Tensor result = torch::stable::new_empty(feats, {s.num_out, s.channels});
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const T* in = feats.const_data_ptr<T>();
    T* out = result.mutable_data_ptr<T>();
    parallel_rows(s.num_out, kGrain, [&](int64_t begin, int64_t end) {
      std::vector<Accumulator<T>> sums(s.channels);
      for (int64_t m = begin; m < end; ++m) {
        sums.assign(s.channels, Accumulator<T>(0));
        for (int64_t tap = 0; tap < s.volume; ++tap) {
          const int64_t n = table[tap * s.num_out + m];
          if (!is_index(n, s.num_in)) continue;
          const T* row = in + n * s.channels;
          in_count ? add_row(row, divisor(in_count, n), s.channels, sums.data()) : add_row(row, s.channels, sums.data());
        }
        const auto by = static_cast<Accumulator<T>>(out_count ? divisor(out_count, m) : 1);
        for (int64_t c = 0; c < s.channels; ++c) out[m * s.channels + c] = static_cast<T>(sums[c] / by);
      }
    });
  });
  return result;
}

// `best` is in the type of the sums; a maximum is one of the inputs, so nothing is rounded.
template <class T>
void start_max(const T* row, int32_t n, int64_t channels, Accumulator<T>* best, int32_t* best_row) {
  for (int64_t c = 0; c < channels; ++c) best[c] = static_cast<Accumulator<T>>(row[c]), best_row[c] = n;
}

template <class T>
void take_max(const T* __restrict row, int32_t n, int64_t channels, Accumulator<T>* __restrict best,
              int32_t* __restrict best_row) {
  for (int64_t c = 0; c < channels; ++c) {
    const auto value = static_cast<Accumulator<T>>(row[c]);
    const bool replaces = replaces_max(value, best[c]);
    best[c] = replaces ? value : best[c];
    best_row[c] = replaces ? n : best_row[c];
  }
}

template <class T>
void max_of_row(const T* in, const int32_t* table, const PoolSizes& s, int64_t m, Accumulator<T>* best, int32_t* best_row) {
  bool is_first = true;
  for (int64_t tap = 0; tap < s.volume; ++tap) {
    const int32_t n = table[tap * s.num_out + m];
    if (!is_index(n, s.num_in)) continue;
    (is_first ? start_max<T> : take_max<T>)(in + n * s.channels, n, s.channels, best, best_row);
    is_first = false;
  }
}

std::tuple<Tensor, Tensor> sparse_max_pool(Tensor feats, Tensor neighbors,
                                           const std::optional<Tensor>& /* reverse_neighbors */) {
  constexpr const char* op = "sparse_max_pool";
  feats = as_contiguous(feats), neighbors = as_contiguous(neighbors);
  const PoolSizes s = check_pool(op, feats, neighbors);
  Tensor values = torch::stable::new_empty(feats, {s.num_out, s.channels});
  Tensor rows = torch::stable::new_empty(feats, {s.num_out, s.channels}, ScalarType::Int);
  const int32_t* table = neighbors.const_data_ptr<int32_t>();
  int32_t* from = rows.mutable_data_ptr<int32_t>();
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const T* in = feats.const_data_ptr<T>();
    T* out = values.mutable_data_ptr<T>();
    parallel_rows(s.num_out, kGrain, [&](int64_t begin, int64_t end) {
      std::vector<Accumulator<T>> best(s.channels);
      for (int64_t m = begin; m < end; ++m) {
        best.assign(s.channels, Accumulator<T>(0));
        std::fill_n(from + m * s.channels, s.channels, -1);
        max_of_row(in, table, s, m, best.data(), from + m * s.channels);
        for (int64_t c = 0; c < s.channels; ++c) out[m * s.channels + c] = static_cast<T>(best[c]);
      }
    });
  });
  return {values, rows};
}

// Add the values that came from row n.
template <class T>
void add_where(const T* __restrict row, const int32_t* __restrict from, int32_t n, int64_t channels,
               Accumulator<T>* __restrict sums) {
  for (int64_t c = 0; c < channels; ++c) sums[c] += from[c] == n ? static_cast<Accumulator<T>>(row[c]) : Accumulator<T>(0);
}

Tensor sparse_max_unpool(Tensor feats, Tensor rows, Tensor reverse_neighbors) {
  constexpr const char* op = "sparse_max_unpool";
  feats = as_contiguous(feats), rows = as_contiguous(rows);
  reverse_neighbors = as_contiguous(reverse_neighbors);
  const PoolSizes s = check_max_rows(op, rows, reverse_neighbors);
  check_feats(op, feats, s.num_out, s.channels);
  Tensor result = torch::stable::new_empty(feats, {s.num_in, s.channels});
  const int32_t* table = reverse_neighbors.const_data_ptr<int32_t>();
  const int32_t* from = rows.const_data_ptr<int32_t>();
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const T* in = feats.const_data_ptr<T>();
    T* out = result.mutable_data_ptr<T>();
    parallel_rows(s.num_in, kGrain, [&](int64_t begin, int64_t end) {
      std::vector<A> sums(s.channels);
      for (int64_t n = begin; n < end; ++n) {
        sums.assign(s.channels, A(0));
        for (int64_t tap = 0; tap < s.volume; ++tap) {
          const int64_t m = table[tap * s.num_in + n];
          if (!is_index(m, s.num_out)) continue;
          add_where(in + m * s.channels, from + m * s.channels, static_cast<int32_t>(n), s.channels, sums.data());
        }
        for (int64_t c = 0; c < s.channels; ++c) out[n * s.channels + c] = static_cast<T>(sums[c]);
      }
    });
  });
  return result;
}

Tensor sparse_max_take(Tensor feats, Tensor rows, Tensor reverse_neighbors) {
  constexpr const char* op = "sparse_max_take";
  feats = as_contiguous(feats), rows = as_contiguous(rows);
  reverse_neighbors = as_contiguous(reverse_neighbors);
  const PoolSizes s = check_max_rows(op, rows, reverse_neighbors);
  check_feats(op, feats, s.num_in, s.channels);
  Tensor result = torch::stable::new_empty(feats, {s.num_out, s.channels});
  const int32_t* from = rows.const_data_ptr<int32_t>();
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const T* in = feats.const_data_ptr<T>();
    T* out = result.mutable_data_ptr<T>();
    parallel_rows(s.num_out, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * s.channels; i < end * s.channels; ++i) {
        out[i] = is_index(from[i], s.num_in) ? in[from[i] * s.channels + i % s.channels] : zero;
      }
    });
  });
  return result;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("neighbor_counts", TORCH_BOX(&pcperc::neighbor_counts));
  m.impl("sparse_sum_pool", TORCH_BOX(&pcperc::sparse_sum_pool));
  m.impl("sparse_max_pool", TORCH_BOX(&pcperc::sparse_max_pool));
  m.impl("sparse_max_unpool", TORCH_BOX(&pcperc::sparse_max_unpool));
  m.impl("sparse_max_take", TORCH_BOX(&pcperc::sparse_max_take));
}
