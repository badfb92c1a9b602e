// SPDX-License-Identifier: Apache-2.0
// Sparse convolution on the CPU: gather, multiply, add, one block of output rows at a time, so that no intermediate is larger
// than a block. The input gradient is the same function with the reversed table and transposed weights.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cstring>
#include <tuple>
#include <vector>

#include "common/parallel.h"
#include "common/sparse_conv_args.h"
#include "cpu/row_kernels.h"

namespace pcperc {
namespace {

constexpr int64_t kRowBlock = 512;   // output rows that share a pass over the weights
constexpr int64_t kPairBlock = 128;  // pairs that are gathered together for the weight gradient
constexpr int64_t kSplitRows = 16384, kMaxSplits = 16;

int64_t round_up(int64_t value, int64_t multiple) { return ceil_div(value, multiple) * multiple; }

// The pairs of every tap within a block of output rows: those of tap k are [starts[k], starts[k + 1]).
struct PairLists {
  std::vector<int32_t> in_rows, out_rows;
  std::vector<int64_t> starts;

  void fill(const int32_t* neighbors, const ConvSizes& sizes, int64_t begin, int64_t end) {
    in_rows.clear(), out_rows.clear(), starts.assign(1, 0);
    for (int64_t tap = 0; tap < sizes.volume; ++tap) {
      const int32_t* row = neighbors + tap * sizes.num_out;
      for (int64_t m = begin; m < end; ++m) {
        if (!sizes.is_input_row(row[m])) continue;
        in_rows.push_back(row[m]);
        out_rows.push_back(static_cast<int32_t>(m - begin));
      }
      starts.push_back(static_cast<int64_t>(in_rows.size()));
    }
  }
};

// Weights as (K, panels, Cin, kPanel), the last panel filled up with zeros.
template <class A>
std::vector<A> pack_weight(const A* weight, const ConvSizes& sizes, int64_t num_panels) {
  std::vector<A> packed(sizes.volume * num_panels * sizes.in_channels * kPanel<A>, A(0));
  parallel_rows(sizes.volume * num_panels, 1, [&](int64_t first, int64_t last) {
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t tap = unit / num_panels, column = unit % num_panels * kPanel<A>;
      const int64_t width = std::min(kPanel<A>, sizes.out_channels - column);
      for (int64_t c = 0; c < sizes.in_channels; ++c) {
        std::memcpy(&packed[(unit * sizes.in_channels + c) * kPanel<A>],
                    weight + (tap * sizes.in_channels + c) * sizes.out_channels + column, width * sizeof(A));
      }
    }
  });
  return packed;
}

template <class A>
void convolve(const A* feats, const A* weight, const int32_t* neighbors, const A* bias, const ConvSizes& sizes, A* output) {
  const int64_t num_panels = ceil_div(sizes.out_channels, kPanel<A>);
  const std::vector<A> packed = pack_weight(weight, sizes, num_panels);
  parallel_blocks(sizes.num_out, kRowBlock, [&](int64_t, int64_t begin, int64_t end) {
    thread_local PairLists pairs;
    pairs.fill(neighbors, sizes, begin, end);
    alignas(64) A sums[kRowBlock * kPanel<A>];
    for (int64_t panel = 0; panel < num_panels; ++panel) {
      const int64_t column = panel * kPanel<A>, width = std::min(kPanel<A>, sizes.out_channels - column);
      std::fill(sums, sums + kRowBlock * kPanel<A>, A(0));
      for (int64_t tap = 0; tap < sizes.volume; ++tap) {
        const int64_t start = pairs.starts[tap], count = pairs.starts[tap + 1] - start;
        if (count == 0) continue;
        const A* tap_panel = packed.data() + (tap * num_panels + panel) * sizes.in_channels * kPanel<A>;
        row_kernels<A>().pair({feats, sizes.in_channels, tap_panel, &pairs.in_rows[start], &pairs.out_rows[start], count, sums});
      }
      for (int64_t m = begin; m < end; ++m) {
        A* out = output + m * sizes.out_channels + column;
        const A* sum = sums + (m - begin) * kPanel<A>;
        for (int64_t j = 0; j < width; ++j) out[j] = sum[j] + (bias ? bias[column + j] : A(0));
      }
    }
  });
}

template <class A>
const A* data_of(const Tensor& tensor) { return static_cast<const A*>(tensor.data_ptr()); }

Tensor contiguous_as(const Tensor& tensor, ScalarType dtype) {
  return torch::stable::to(torch::stable::contiguous(tensor), dtype);
}

Tensor sparse_conv(Tensor feats, Tensor weight, Tensor neighbors, std::optional<Tensor> reverse_neighbors,
                   std::optional<Tensor> bias, int64_t groups, bool /*allow_tf32*/) {
  const ConvSizes sizes = check_sparse_conv(feats, weight, neighbors, reverse_neighbors, bias, groups);
  const ScalarType dtype = feats.scalar_type(), sums = sum_dtype(dtype);
  // Parameters are rounded to the dtype of the features first, as they are on CUDA.
  const Tensor x = contiguous_as(feats, sums), w = contiguous_as(contiguous_as(weight, dtype), sums);
  const Tensor table = torch::stable::contiguous(neighbors);
  std::optional<Tensor> b;
  if (bias.has_value()) b = contiguous_as(*bias, sums);
  Tensor output = torch::stable::new_empty(feats, {sizes.num_out, sizes.out_channels}, sums);
  const auto run = [&](auto zero) {
    using A = decltype(zero);
    convolve<A>(data_of<A>(x), data_of<A>(w), data_of<int32_t>(table), b ? data_of<A>(*b) : nullptr, sizes,
                static_cast<A*>(output.data_ptr()));
  };
  sums == ScalarType::Double ? run(0.0) : run(0.0f);
  return torch::stable::to(output, dtype);
}

// Copy rows of `from` (n, channels) into `to` (count, stride), the columns behind `channels` left as they are.
template <class A>
void gather_rows(const A* from, int64_t channels, const int32_t* rows, int64_t count, A* to, int64_t stride) {
  for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * stride, from + rows[i] * channels, channels * sizeof(A));
}

// Weight gradient of one tap over the output rows [begin, end), into `sums` (in_stride, out_stride).
template <class A>
void tap_weight_grad(const A* feats, const A* grad, const int32_t* neighbors, const ConvSizes& sizes, int64_t begin, int64_t end,
                     int64_t in_stride, int64_t out_stride, A* sums) {
  std::vector<A> left(kPairBlock * in_stride, A(0)), right(kPairBlock * out_stride, A(0));
  int32_t in_rows[kPairBlock], out_rows[kPairBlock];
  for (int64_t m = begin; m < end;) {
    int64_t count = 0;
    for (; m < end && count < kPairBlock; ++m) {
      if (!sizes.is_input_row(neighbors[m])) continue;
      in_rows[count] = neighbors[m];
      out_rows[count++] = static_cast<int32_t>(m);
    }
    gather_rows(feats, sizes.in_channels, in_rows, count, left.data(), in_stride);
    gather_rows(grad, sizes.out_channels, out_rows, count, right.data(), out_stride);
    for (int64_t column = 0; column < out_stride; column += kPanel<A>) {
      row_kernels<A>().outer({left.data(), in_stride, in_stride, right.data() + column, out_stride, count, sums + column, out_stride});
    }
  }
}

// Sum (splits, count) over the splits, in order.
template <class A>
void sum_splits(const std::vector<A>& partial, int64_t splits, int64_t count, A* output) {
  parallel_rows(count, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      A sum = 0;
      for (int64_t split = 0; split < splits; ++split) sum += partial[split * count + i];
      output[i] = sum;
    }
  });
}

template <class A>
void weight_grad(const A* feats, const A* grad, const int32_t* neighbors, const ConvSizes& sizes, A* output) {
  // The cut depends on the sizes alone, so the sum is the same for every number of threads.
  const int64_t splits = std::clamp<int64_t>(ceil_div(sizes.num_out, kSplitRows), 1, kMaxSplits);
  const int64_t split_rows = ceil_div(sizes.num_out, splits);
  const int64_t in_stride = round_up(sizes.in_channels, kOuterRows), out_stride = round_up(sizes.out_channels, kPanel<A>);
  const int64_t tap_size = sizes.in_channels * sizes.out_channels;
  std::vector<A> partial(splits * sizes.volume * tap_size);
  parallel_rows(splits * sizes.volume, 1, [&](int64_t first, int64_t last) {
    std::vector<A> sums(in_stride * out_stride);
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t tap = unit % sizes.volume, begin = unit / sizes.volume * split_rows;
      std::fill(sums.begin(), sums.end(), A(0));
      tap_weight_grad(feats, grad, neighbors + tap * sizes.num_out, sizes, begin, std::min(begin + split_rows, sizes.num_out),
                      in_stride, out_stride, sums.data());
      for (int64_t c = 0; c < sizes.in_channels; ++c) {
        std::copy_n(&sums[c * out_stride], sizes.out_channels, &partial[unit * tap_size + c * sizes.out_channels]);
      }
    }
  });
  sum_splits(partial, splits, sizes.volume * tap_size, output);
}

template <class A>
void bias_grad(const A* grad, const ConvSizes& sizes, A* output) {
  constexpr int64_t block = 1024;
  const int64_t blocks = ceil_div(sizes.num_out, block), channels = sizes.out_channels;
  std::vector<A> partial(blocks * channels, A(0));
  parallel_blocks(sizes.num_out, block, [&](int64_t index, int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      for (int64_t c = 0; c < channels; ++c) partial[index * channels + c] += grad[m * channels + c];
    }
  });
  sum_splits(partial, blocks, channels, output);
}

std::tuple<Tensor, Tensor> sparse_conv_weight_grad(Tensor feats, Tensor grad_output, Tensor neighbors,
                                                   std::optional<Tensor> reverse_neighbors, bool with_bias, int64_t groups,
                                                   bool /*allow_tf32*/) {
  const ConvSizes sizes = check_weight_grad(feats, grad_output, neighbors, reverse_neighbors, groups);
  const ScalarType sums = sum_dtype(feats.scalar_type());
  const Tensor x = contiguous_as(feats, sums), g = contiguous_as(grad_output, sums);
  const Tensor table = torch::stable::contiguous(neighbors);
  Tensor grad_weight = torch::stable::new_empty(feats, {sizes.volume, sizes.in_channels, sizes.out_channels}, sums);
  Tensor grad_bias = torch::stable::new_empty(feats, {with_bias ? sizes.out_channels : 0}, sums);
  const auto run = [&](auto zero) {
    using A = decltype(zero);
    weight_grad<A>(data_of<A>(x), data_of<A>(g), data_of<int32_t>(table), sizes, static_cast<A*>(grad_weight.data_ptr()));
    if (with_bias) bias_grad<A>(data_of<A>(g), sizes, static_cast<A*>(grad_bias.data_ptr()));
  };
  sums == ScalarType::Double ? run(0.0) : run(0.0f);
  return {grad_weight, grad_bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("sparse_conv", TORCH_BOX(&sparse_conv));
  m.impl("sparse_conv_weight_grad", TORCH_BOX(&sparse_conv_weight_grad));
}

}  // namespace pcperc
