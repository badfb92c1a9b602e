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

// The columns of a block of output channels: those of one group, `kPanel` at a time.
struct Panels {
  int64_t per_group, count;

  template <class A>
  static Panels of(const ConvSizes& sizes) {
    const int64_t per_group = ceil_div(sizes.group_out(), kPanel<A>);
    return {per_group, per_group * sizes.groups};
  }
};

// Weights as (K, panels, Cin / groups, kPanel), the last panel of a group filled up with zeros.
template <class A>
std::vector<A> pack_weight(const A* weight, const ConvSizes& sizes, const Panels& panels) {
  const int64_t channels = sizes.group_in();
  std::vector<A> packed(sizes.volume * panels.count * channels * kPanel<A>, A(0));
  parallel_rows(sizes.volume * panels.count, 1, [&](int64_t first, int64_t last) {
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t tap = unit / panels.count, panel = unit % panels.count;
      const int64_t in_group = panel % panels.per_group * kPanel<A>, width = std::min(kPanel<A>, sizes.group_out() - in_group);
      const int64_t column = panel / panels.per_group * sizes.group_out() + in_group;
      for (int64_t c = 0; c < channels; ++c) {
        std::memcpy(&packed[(unit * channels + c) * kPanel<A>], weight + (tap * channels + c) * sizes.out_channels + column,
                    width * sizeof(A));
      }
    }
  });
  return packed;
}

// What is done to a sum before it is stored: act(sum + bias + residual).
template <class A>
struct Epilogue {
  const A* bias = nullptr;      // (Cout)
  const A* residual = nullptr;  // (M, Cout)
  A negative_slope = 1;

  A operator()(A sum, int64_t row, int64_t column, int64_t columns) const {
    if (bias) sum += bias[column];
    if (residual) sum += residual[row * columns + column];
    // A slope of 0 is a branch of its own: 0 * -inf is not 0.
    return sum < 0 ? (negative_slope == 0 ? A(0) : sum * negative_slope) : sum;
  }
};

// Groups of one channel in and out: products of columns, which no panel would fill.
template <class A>
void convolve_depthwise(const A* feats, const A* weight, const int32_t* neighbors, const Epilogue<A>& epilogue,
                        const ConvSizes& sizes, A* output) {
  const int64_t channels = sizes.in_channels;
  parallel_blocks(sizes.num_out, kRowBlock, [&](int64_t, int64_t begin, int64_t end) {
    thread_local PairLists pairs;
    pairs.fill(neighbors, sizes, begin, end);
    A* block = output + begin * channels;
    std::fill(block, output + end * channels, A(0));
    for (int64_t tap = 0; tap < sizes.volume; ++tap) {
      const A* w = weight + tap * channels;
      for (int64_t i = pairs.starts[tap]; i < pairs.starts[tap + 1]; ++i) {
        const A* in = feats + pairs.in_rows[i] * channels;
        A* out = block + pairs.out_rows[i] * channels;
        for (int64_t c = 0; c < channels; ++c) out[c] += in[c] * w[c];
      }
    }
    for (int64_t m = begin; m < end; ++m) {
      A* out = output + m * channels;
      for (int64_t c = 0; c < channels; ++c) out[c] = epilogue(out[c], m, c, channels);
    }
  });
}

template <class A>
void convolve(const A* feats, const A* weight, const int32_t* neighbors, const Epilogue<A>& epilogue, const ConvSizes& sizes,
              A* output) {
  const Panels panels = Panels::of<A>(sizes);
  const std::vector<A> packed = pack_weight(weight, sizes, panels);
  parallel_blocks(sizes.num_out, kRowBlock, [&](int64_t, int64_t begin, int64_t end) {
    thread_local PairLists pairs;
    pairs.fill(neighbors, sizes, begin, end);
    alignas(64) A sums[kRowBlock * kPanel<A>];
    for (int64_t panel = 0; panel < panels.count; ++panel) {
      const int64_t group = panel / panels.per_group, in_group = panel % panels.per_group * kPanel<A>;
      const int64_t column = group * sizes.group_out() + in_group, width = std::min(kPanel<A>, sizes.group_out() - in_group);
      std::fill(sums, sums + kRowBlock * kPanel<A>, A(0));
      for (int64_t tap = 0; tap < sizes.volume; ++tap) {
        const int64_t start = pairs.starts[tap], count = pairs.starts[tap + 1] - start;
        if (count == 0) continue;
        const A* tap_panel = packed.data() + (tap * panels.count + panel) * sizes.group_in() * kPanel<A>;
        row_kernels<A>().pair({feats + group * sizes.group_in(), sizes.in_channels, sizes.group_in(), tap_panel,
                               &pairs.in_rows[start], &pairs.out_rows[start], count, sums});
      }
      for (int64_t m = begin; m < end; ++m) {
        A* out = output + m * sizes.out_channels + column;
        const A* sum = sums + (m - begin) * kPanel<A>;
        for (int64_t j = 0; j < width; ++j) out[j] = epilogue(sum[j], m, column + j, sizes.out_channels);
      }
    }
  });
}

template <class A>
const A* data_of(const Tensor& tensor) { return static_cast<const A*>(tensor.data_ptr()); }

Tensor contiguous_as(const Tensor& tensor, ScalarType dtype) {
  return torch::stable::to(torch::stable::contiguous(tensor), dtype);
}

Tensor convolve(const Tensor& feats, const Tensor& weight, const Tensor& neighbors, const std::optional<Tensor>& bias,
                const std::optional<Tensor>& residual, double negative_slope, const ConvSizes& sizes) {
  const ScalarType dtype = feats.scalar_type(), sums = sum_dtype(dtype);
  // Parameters are rounded to the dtype of the features first, as they are on CUDA.
  const Tensor x = contiguous_as(feats, sums), w = contiguous_as(contiguous_as(weight, dtype), sums);
  const Tensor table = torch::stable::contiguous(neighbors);
  std::optional<Tensor> b, r;
  if (bias.has_value()) b = contiguous_as(*bias, sums);
  if (residual.has_value()) r = contiguous_as(*residual, sums);
  Tensor output = torch::stable::new_empty(feats, {sizes.num_out, sizes.out_channels}, sums);
  const auto run = [&](auto zero) {
    using A = decltype(zero);
    const Epilogue<A> epilogue{b ? data_of<A>(*b) : nullptr, r ? data_of<A>(*r) : nullptr, static_cast<A>(negative_slope)};
    const bool is_depthwise = sizes.group_in() == 1 && sizes.group_out() == 1;
    (is_depthwise ? convolve_depthwise<A> : convolve<A>)(data_of<A>(x), data_of<A>(w), data_of<int32_t>(table), epilogue, sizes,
                                                         static_cast<A*>(output.data_ptr()));
  };
  sums == ScalarType::Double ? run(0.0) : run(0.0f);
  return torch::stable::to(output, dtype);
}

Tensor sparse_conv(Tensor feats, Tensor weight, Tensor neighbors, std::optional<Tensor> reverse_neighbors,
                   std::optional<Tensor> bias, int64_t groups, bool /*allow_tf32*/) {
  const ConvSizes sizes = check_sparse_conv("sparse_conv", feats, weight, neighbors, reverse_neighbors, bias, groups);
  return convolve(feats, weight, neighbors, bias, std::nullopt, 1.0, sizes);
}

Tensor sparse_conv_fused(Tensor feats, Tensor weight, Tensor neighbors, std::optional<Tensor> bias,
                         std::optional<Tensor> residual, int64_t groups, bool /*allow_tf32*/, double negative_slope) {
  constexpr const char* op = "sparse_conv_fused";
  const ConvSizes sizes = check_sparse_conv(op, feats, weight, neighbors, std::nullopt, bias, groups);
  if (residual.has_value()) check_residual(op, *residual, feats, sizes);
  return convolve(feats, weight, neighbors, bias, residual, negative_slope, sizes);
}

// Copy `width` columns of the named rows of `from` (n, channels) into `to` (count, stride), whose other columns stay.
template <class A>
void gather_rows(const A* from, int64_t channels, int64_t width, const int32_t* rows, int64_t count, A* to, int64_t stride) {
  for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * stride, from + rows[i] * channels, width * sizeof(A));
}

// Weight gradient of one tap over the output rows [begin, end), into `sums` (groups, in_stride, out_stride).
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
    for (int64_t group = 0; group < sizes.groups; ++group) {
      const int64_t in = group * sizes.group_in(), out = group * sizes.group_out();
      gather_rows(feats + in, sizes.in_channels, sizes.group_in(), in_rows, count, left.data(), in_stride);
      gather_rows(grad + out, sizes.out_channels, sizes.group_out(), out_rows, count, right.data(), out_stride);
      A* group_sums = sums + group * in_stride * out_stride;
      for (int64_t column = 0; column < out_stride; column += kPanel<A>) {
        row_kernels<A>().outer({left.data(), in_stride, in_stride, right.data() + column, out_stride, count, group_sums + column,
                                out_stride});
      }
    }
  }
}

// The same for groups of one channel in and out, into `sums` (channels).
template <class A>
void tap_depthwise_grad(const A* feats, const A* grad, const int32_t* neighbors, const ConvSizes& sizes, int64_t begin,
                        int64_t end, A* sums) {
  const int64_t channels = sizes.in_channels;
  for (int64_t m = begin; m < end; ++m) {
    if (!sizes.is_input_row(neighbors[m])) continue;
    const A *left = feats + neighbors[m] * channels, *right = grad + m * channels;
    for (int64_t c = 0; c < channels; ++c) sums[c] += left[c] * right[c];
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
  const bool is_depthwise = sizes.group_in() == 1 && sizes.group_out() == 1;
  const int64_t in_stride = is_depthwise ? 1 : round_up(sizes.group_in(), kOuterRows);
  const int64_t out_stride = is_depthwise ? 1 : round_up(sizes.group_out(), kPanel<A>);
  const int64_t tap_size = sizes.group_in() * sizes.out_channels;
  std::vector<A> partial(splits * sizes.volume * tap_size);
  parallel_rows(splits * sizes.volume, 1, [&](int64_t first, int64_t last) {
    std::vector<A> sums(sizes.groups * in_stride * out_stride);
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t tap = unit % sizes.volume, begin = unit / sizes.volume * split_rows;
      std::fill(sums.begin(), sums.end(), A(0));
      const int64_t end = std::min(begin + split_rows, sizes.num_out);
      const int32_t* table = neighbors + tap * sizes.num_out;
      if (is_depthwise) {
        tap_depthwise_grad(feats, grad, table, sizes, begin, end, sums.data());
      } else {
        tap_weight_grad(feats, grad, table, sizes, begin, end, in_stride, out_stride, sums.data());
      }
      for (int64_t c = 0; c < sizes.group_in(); ++c) {
        for (int64_t group = 0; group < sizes.groups; ++group) {
          std::copy_n(&sums[(group * in_stride + c) * out_stride], sizes.group_out(),
                      &partial[unit * tap_size + c * sizes.out_channels + group * sizes.group_out()]);
        }
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
  Tensor grad_weight = torch::stable::new_empty(feats, {sizes.volume, sizes.group_in(), sizes.out_channels}, sums);
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
  m.impl("sparse_conv_fused", TORCH_BOX(&sparse_conv_fused));
  m.impl("sparse_conv_weight_grad", TORCH_BOX(&sparse_conv_weight_grad));
}

}  // namespace pcperc
