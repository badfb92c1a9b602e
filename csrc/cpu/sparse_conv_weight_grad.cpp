// SPDX-License-Identifier: Apache-2.0
// Gradients of the sparse convolution with respect to weight and bias: outer products of the rows of each pair. The rows of
// the output are cut into splits and the taps into groups; each split and group of taps is summed in one order by one thread,
// then the splits in theirs. The cuts depend on the sizes alone, so the sums are the same for every number of threads.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <tuple>
#include <type_traits>

#include "common/dispatch.h"
#include "common/tensors.h"
#include "cpu/conv_layout.h"
#include "cpu/row_order.h"

namespace pcperc {
namespace {

using torch::headeronly::BFloat16;

constexpr int64_t kSplitRows = 4096, kMaxSplits = 16;
constexpr int64_t kPartialBytes = 64 << 20;     // of the sums of all splits, where there is more than one
constexpr int64_t kBlockRows = 512;             // rows whose pairs are found together
constexpr int64_t kTapGroup = 9;                // at most; taps that take turns on a block of rows
constexpr int64_t kTapGroupBytes = 256 * 1024;  // of their sums, which stay in the second cache
constexpr int64_t kUnits = 16;                  // of work, if it can be cut into as many
constexpr int64_t kPairBytes = 64 * 1024;       // rows of pairs, of which a panel's columns stay in the first cache
constexpr int64_t kMaxPairs = 256;
constexpr int64_t kBiasRows = 1024;

// Sum (splits, count) over the splits, in order.
template <class A>
void sum_splits(const A* partial, int64_t splits, int64_t count, A* output) {
  parallel_rows(count, 4096, [&](int64_t begin, int64_t end) {
    std::copy_n(partial + begin, end - begin, output + begin);
    for (int64_t split = 1; split < splits; ++split) {
      for (int64_t i = begin; i < end; ++i) output[i] += partial[split * count + i];
    }
  });
}

template <class T>
struct WeightGrad {
  using A = Accumulator<T>;

  ConvSizes sizes;
  const T* feats;
  const T* grad;
  const int32_t* neighbors;

  Capability capability = cpu_capability();
  const ConvKernels<A>& kernels = conv_kernels<A>(capability);
  ConvLayout layout = ConvLayout::of<A>(sizes);
  int64_t tap_sums = layout.channels * layout.row_size();  // sums of a tap: (channels, groups, vectors, lanes)
  int64_t tap_size = layout.channels * sizes.out_channels;
  // Of rows that are copied, with room for a vector that begins in the last column.
  int64_t left_stride = ceil_div(sizes.in_channels, layout.lanes) * layout.lanes;
  int64_t right_stride = (ceil_div(sizes.out_channels, layout.lanes) + 1) * layout.lanes;

  void run(A* output) const {
    const int64_t tap_bytes = tap_sums * static_cast<int64_t>(sizeof(A));
    const int64_t affordable = std::clamp<int64_t>(kPartialBytes / (sizes.volume * tap_bytes), 1, kMaxSplits);
    const int64_t splits = std::clamp<int64_t>(ceil_div(sizes.num_out, kSplitRows), 1, affordable);
    const int64_t split_rows = ceil_div(sizes.num_out, splits);
    const int64_t most_taps = std::clamp<int64_t>(sizes.volume * splits / kUnits, 1, kTapGroup);
    const int64_t taps = std::clamp<int64_t>(kTapGroupBytes / tap_bytes, 1, most_taps);
    const int64_t tap_groups = ceil_div(sizes.volume, taps);
    Buffer<A> buffer;
    A* partial = splits == 1 ? output : buffer.require(splits * sizes.volume * tap_size);
    parallel_queue(splits * tap_groups, [&](int64_t unit) {
      const int64_t split = unit / tap_groups, first = unit % tap_groups * taps, last = std::min(first + taps, sizes.volume);
      const int64_t begin = split * split_rows, end = std::min(begin + split_rows, sizes.num_out);
      thread_local Buffer<A> sums_buffer;
      A* sums = sums_buffer.require(taps * tap_sums);
      std::fill_n(sums, (last - first) * tap_sums, A(0));
      add_rows(begin, end, first, last, sums);
      for (int64_t tap = first; tap < last; ++tap) {
        store(sums + (tap - first) * tap_sums, partial + (split * sizes.volume + tap) * tap_size);
      }
    });
    if (splits > 1) sum_splits(partial, splits, sizes.volume * tap_size, output);
  }

 private:
  // Add the pairs of the taps [first, last) within the rows [begin, end) to their sums.
  void add_rows(int64_t begin, int64_t end, int64_t first, int64_t last, A* sums) const {
    thread_local PairLists lists;
    for (int64_t block = begin; block < end; block += kBlockRows) {
      const int64_t block_end = std::min(block + kBlockRows, end);
      lists.find(neighbors, sizes, block, block_end, first, last);
      for (int64_t k = 0; k < last - first; ++k) add_tap(lists, k, block, sums + k * tap_sums);
    }
  }

  void add_tap(const PairLists& lists, int64_t k, int64_t block, A* sums) const {
    const int64_t pair_bytes = (sizes.in_channels + sizes.out_channels) * static_cast<int64_t>(sizeof(A));
    const int64_t step = std::clamp<int64_t>(kPairBytes / pair_bytes / 2 * 2, 16, kMaxPairs);
    for (int64_t first = 0; first < lists.count(k); first += step) {
      const int64_t count = std::min(step, lists.count(k) - first);
      const int32_t *in_rows = lists.in_rows(k) + first, *out_rows = lists.out_rows(k) + first;
      if constexpr (std::is_same_v<T, A>) {
        // Whole vectors are read from the rows of the gradient: rows that do not consist of them are copied to some that do.
        if (layout.is_depthwise || layout.columns % layout.lanes == 0) {
          const T* rows = grad + block * sizes.out_channels;
          const int64_t size = sizeof(A);
          add_pairs<A>(products(), {feats, sizes.in_channels, kernel_channels(), rows, sizes.out_channels, layout.vectors,
                                    in_rows, out_rows, count, sums, layout.row_size(), sizes.in_channels * size,
                                    sizes.out_channels * size});
          continue;
        }
      }
#ifdef PCPERC_X86
      if constexpr (std::is_same_v<T, BFloat16>) {
        if (capability == Capability::kAvx512Bf16 && !layout.is_depthwise) {
          add_bfloat16_pairs(in_rows, out_rows, count, block, sums);
          continue;
        }
      }
#endif
      add_copied_pairs(in_rows, out_rows, count, block, sums);
    }
  }

  void add_copied_pairs(const int32_t* in_rows, const int32_t* out_rows, int64_t count, int64_t block, A* sums) const {
    thread_local Buffer<A> buffer;
    A *left = buffer.require(kMaxPairs * (left_stride + right_stride)), *right = left + kMaxPairs * left_stride;
    copy_rows(feats, sizes.in_channels, in_rows, count, left, left_stride);
    copy_rows(grad + block * sizes.out_channels, sizes.out_channels, out_rows, count, right, right_stride);
    for (int64_t i = 0; i < count; ++i) clear_surplus(right + i * right_stride);
    add_pairs<A>(products(), {left, left_stride, kernel_channels(), right, right_stride, layout.vectors, row_numbers(),
                              row_numbers(), count, sums, layout.row_size(), 0, 0});
  }

  void copy_rows(const T* from, int64_t channels, const int32_t* rows, int64_t count, A* to, int64_t to_stride) const {
    if constexpr (std::is_same_v<T, A>) {
      for (int64_t i = 0; i < count; ++i) std::copy_n(from + rows[i] * channels, channels, to + i * to_stride);
    } else {
      half_conversion<T>(capability).gather(from, channels, rows, count, to, to_stride);
    }
  }

#ifdef PCPERC_X86
  void add_bfloat16_pairs(const int32_t* in_rows, const int32_t* out_rows, int64_t count, int64_t block, A* sums) const {
    thread_local Buffer<BFloat16Pair> buffer;
    const int64_t steps = ceil_div(count, 2);
    BFloat16Pair* left = buffer.require(kMaxPairs / 2 * (left_stride + right_stride));
    BFloat16Pair* right = left + kMaxPairs / 2 * left_stride;
    bfloat16_gather_pairs(feats, sizes.in_channels, in_rows, count, left, left_stride);
    bfloat16_gather_pairs(grad + block * sizes.out_channels, sizes.out_channels, out_rows, count, right, right_stride);
    for (int64_t i = 0; i < steps; ++i) clear_surplus(right + i * right_stride);
    add_pairs<BFloat16Pair>(bfloat16_outer_products,
                            {left, left_stride, layout.channels, right, right_stride, layout.vectors, row_numbers(),
                             row_numbers(), steps, sums, layout.row_size(), 0, 0});
  }
#endif

  // The whole vectors of the last group reach past its columns; what they find there is multiplied but not used.
  template <class In>
  void clear_surplus(In* row) const { std::fill(row + sizes.out_channels, row + right_stride, In{}); }

  static const int32_t* row_numbers() {
    static const RowNumbers<kMaxPairs> numbers;
    return numbers.values;
  }

  auto products() const { return layout.is_depthwise ? kernels.scaled_outer_products : kernels.outer_products; }
  int64_t kernel_channels() const { return layout.is_depthwise ? layout.columns : layout.channels; }

  // Group by group, starting from what is given for the first one.
  template <class In>
  void add_pairs(void (*products)(const OuterProducts<In, A>&), OuterProducts<In, A> group) const {
    for (int64_t g = 0; g < layout.groups; ++g) {
      products(group);
      group.left += group.channels;
      group.right += layout.columns;
      group.sums += layout.vectors * layout.lanes;
      group.left_ahead_bytes = group.right_ahead_bytes = 0;
    }
  }

  // From (channels, groups, vectors, lanes) to (channels, Cout).
  void store(const A* sums, A* output) const {
    for (int64_t row = 0; row < layout.channels * layout.groups; ++row) {
      std::copy_n(sums + row * layout.vectors * layout.lanes, layout.columns, output + row * layout.columns);
    }
  }
};

template <class T>
void bias_grad(const T* grad, const ConvSizes& sizes, Accumulator<T>* output) {
  using A = Accumulator<T>;
  const int64_t blocks = ceil_div(sizes.num_out, kBiasRows), channels = sizes.out_channels;
  Buffer<A> partial(std::max<int64_t>(blocks, 1) * channels);
  std::fill_n(partial.data(), channels, A(0));
  parallel_blocks(sizes.num_out, kBiasRows, [&](int64_t block, int64_t begin, int64_t end) {
    thread_local Buffer<A> buffer;
    A* sums = partial.data() + block * channels;
    std::fill_n(sums, channels, A(0));
    for (int64_t m = begin; m < end; ++m) {
      const A* row;
      if constexpr (std::is_same_v<T, A>) {
        row = grad + m * channels;
      } else {
        half_conversion<T>(cpu_capability()).widen(grad + m * channels, channels, buffer.require(channels));
        row = buffer.data();
      }
      for (int64_t c = 0; c < channels; ++c) sums[c] += row[c];
    }
  });
  sum_splits(partial.data(), blocks, channels, output);
}

std::tuple<Tensor, Tensor> sparse_conv_weight_grad(Tensor feats, Tensor grad_output, Tensor neighbors,
                                                   std::optional<Tensor> reverse_neighbors, bool with_bias, int64_t groups,
                                                   bool /*allow_tf32*/, std::optional<Tensor> row_order,
                                                   std::optional<Tensor> /*reverse_row_order*/, std::optional<Tensor> /*pairs*/) {
  const ConvSizes sizes = check_weight_grad(feats, grad_output, neighbors, reverse_neighbors, groups);
  check_row_order("sparse_conv_weight_grad", row_order, sizes.num_out);
  const ScalarType sums = sum_dtype(feats.scalar_type());
  const Tensor x = as_contiguous(feats), g = as_contiguous(grad_output);
  const Tensor table = in_row_order(neighbors, row_order);
  Tensor grad_weight = torch::stable::new_empty(feats, {sizes.volume, sizes.group_in(), sizes.out_channels}, sums);
  Tensor grad_bias = torch::stable::new_empty(feats, {with_bias ? sizes.out_channels : 0}, sums);
  dispatch_float(feats.scalar_type(), "sparse_conv_weight_grad", [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    if (grad_weight.numel() > 0) {
      const WeightGrad<T> gradient{sizes, data_of<T>(x), data_of<T>(g), data_of<int32_t>(table)};
      gradient.run(static_cast<A*>(grad_weight.data_ptr()));
    }
    if (with_bias) bias_grad(data_of<T>(g), sizes, static_cast<A*>(grad_bias.data_ptr()));
  });
  return {grad_weight, grad_bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) { m.impl("sparse_conv_weight_grad", TORCH_BOX(&sparse_conv_weight_grad)); }

}  // namespace pcperc
