// SPDX-License-Identifier: Apache-2.0
// Sparse convolution on the CPU: gather, multiply, add, one block of output rows at a time, so that no intermediate is larger
// than a block. Half-precision rows are widened as they are gathered. The input gradient is the same function with the
// reversed table and transposed weights.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cstring>
#include <type_traits>

#include "common/buffer.h"
#include "common/dispatch.h"
#include "common/tensors.h"
#include "cpu/conv_layout.h"
#include "cpu/row_order.h"

namespace pcperc {
namespace {

using torch::headeronly::BFloat16;

constexpr int64_t kBlockRows = 1024, kLeastBlockRows = 64;  // output rows that share a pass over the weights
constexpr int64_t kBlockBytes = 256 * 1024;                 // of their sums, which stay in the second cache
constexpr int64_t kWidenRows = 48;                          // gathered rows that are widened together
constexpr int64_t kFinishValues = 4096;                     // sums that are finished together

template <class T>
struct Convolution {
  using A = Accumulator<T>;

  ConvSizes sizes;
  const T* feats;
  const int32_t* neighbors;
  const A* bias;      // (Cout) or null
  const T* residual;  // (M, Cout) or null
  A negative_slope;
  T* output;

  Capability capability = cpu_capability();
  const ConvKernels<A>& kernels = conv_kernels<A>(capability);
  ConvLayout layout = ConvLayout::of<A>(sizes);

  void run(const T* weight, const WeightStrides& strides) const {
#ifdef PCPERC_X86
    if constexpr (std::is_same_v<T, BFloat16>) {
      if (capability == Capability::kAvx512Bf16 && layout.channels % 2 == 0) return run_bfloat16(weight, strides);
    }
#endif
    Buffer<A> packed(weights());
    pack_weight<1>(weight, strides, sizes.volume, layout, kernels.widest, packed.data());
    run_blocks([&](const PairLists& lists, int64_t tap, A* sums) {
      const A* panels = packed.data() + tap * layout.groups * layout.panel_size();
      if constexpr (std::is_same_v<T, A>) {
        const int64_t row_bytes = sizes.in_channels * static_cast<int64_t>(sizeof(T));
        multiply<A>(kernel(), {feats, sizes.in_channels, kernel_channels(), lists.in_rows(tap), lists.out_rows(tap),
                               lists.count(tap), panels, sums, layout.row_size(), layout.vectors, row_bytes});
      } else {
        multiply_widened(lists, tap, panels, sums);
      }
    });
  }

 private:
#ifdef PCPERC_X86
  void run_bfloat16(const BFloat16* weight, const WeightStrides& strides) const {
    using Pair = BFloat16Pair;
    Buffer<BFloat16> packed(weights());
    pack_weight<2>(weight, strides, sizes.volume, layout, kernels.widest, packed.data());
    const int64_t row_bytes = sizes.in_channels * static_cast<int64_t>(sizeof(BFloat16));
    run_blocks([&](const PairLists& lists, int64_t tap, A* sums) {
      const BFloat16* panels = packed.data() + tap * layout.groups * layout.panel_size();
      multiply<Pair>(bfloat16_row_products,
                     {reinterpret_cast<const Pair*>(feats), sizes.in_channels / 2, layout.channels / 2, lists.in_rows(tap),
                      lists.out_rows(tap), lists.count(tap), reinterpret_cast<const Pair*>(panels), sums, layout.row_size(),
                      layout.vectors, row_bytes});
    });
  }
#endif

  int64_t weights() const { return sizes.volume * layout.groups * layout.panel_size(); }
  auto kernel() const { return layout.is_depthwise ? kernels.scaled_rows : kernels.row_products; }
  int64_t kernel_channels() const { return layout.is_depthwise ? layout.columns : layout.channels; }

  // multiply_tap(lists, tap, sums) adds the products of a tap to the sums of a block.
  template <class F>
  void run_blocks(const F& multiply_tap) const {
    const int64_t row_bytes = layout.row_size() * static_cast<int64_t>(sizeof(A));
    const int64_t for_all_threads = ceil_div(sizes.num_out, 4 * static_cast<int64_t>(torch::stable::get_num_threads()));
    const int64_t most = std::clamp(kBlockBytes / row_bytes, kLeastBlockRows, kBlockRows);
    const int64_t rows = std::clamp(for_all_threads, kLeastBlockRows, most);
    parallel_queue(ceil_div(sizes.num_out, rows), [&](int64_t block) {
      thread_local PairLists lists;
      thread_local Buffer<A> buffer;
      const int64_t begin = block * rows, end = std::min(begin + rows, sizes.num_out);
      A* sums = buffer.require(rows * layout.row_size());
      start_sums(end - begin, sums);
      lists.find(neighbors, sizes, begin, end, 0, sizes.volume);
      for (int64_t tap = 0; tap < sizes.volume; ++tap) {
        if (lists.count(tap) > 0) multiply_tap(lists, tap, sums);
      }
      finish(begin, end, sums);
    });
  }

  void start_sums(int64_t rows, A* sums) const {
    const int64_t size = layout.row_size();
    std::fill_n(sums, bias ? size : rows * size, A(0));
    if (!bias) return;
    for (int64_t group = 0; group < layout.groups; ++group) {
      std::copy_n(bias + group * layout.columns, layout.columns, sums + group * layout.vectors * layout.lanes);
    }
    for (int64_t m = 1; m < rows; ++m) std::memcpy(sums + m * size, sums, size * sizeof(A));
  }

  // Group by group, starting from what is given for the first one.
  template <class In>
  void multiply(void (*products)(const RowProducts<In, A>&), RowProducts<In, A> group) const {
    for (int64_t g = 0; g < layout.groups; ++g) {
      products(group);
      group.feats += group.channels;
      group.weight += group.channels * layout.vectors * layout.lanes;
      group.sums += layout.vectors * layout.lanes;
      group.ahead_bytes = 0;
    }
  }

  void multiply_widened(const PairLists& lists, int64_t tap, const A* panels, A* sums) const {
    thread_local Buffer<A> buffer;
    static const RowNumbers<kWidenRows> numbers;
    const int64_t channels = sizes.in_channels, stride = ceil_div(channels, layout.lanes) * layout.lanes;
    const int32_t *in_rows = lists.in_rows(tap), *out_rows = lists.out_rows(tap);
    A* rows = buffer.require(kWidenRows * stride);
    for (int64_t first = 0; first < lists.count(tap); first += kWidenRows) {
      const int64_t count = std::min(kWidenRows, lists.count(tap) - first);
      half_conversion<T>(capability).gather(feats, channels, in_rows + first, count, rows, stride);
      multiply<A>(kernel(), {rows, stride, kernel_channels(), numbers.values, out_rows + first, count, panels, sums,
                             layout.row_size(), layout.vectors, 0});
    }
  }

  // Store act(sums + residual), some rows at a time.
  void finish(int64_t begin, int64_t end, const A* sums) const {
    const int64_t step = std::max<int64_t>(kFinishValues / sizes.out_channels, 1);
    for (int64_t m = begin; m < end; m += step) {
      finish_rows(m, std::min(step, end - m), sums + (m - begin) * layout.row_size());
    }
  }

  void finish_rows(int64_t first, int64_t rows, const A* sums) const {
    const int64_t values = rows * sizes.out_channels, start = first * sizes.out_channels;
    const T* added = residual ? residual + start : nullptr;
    if constexpr (std::is_same_v<T, A>) {
      finish_rows(sums, added, rows, output + start);
    } else {
      thread_local Buffer<A> buffer;
      A *wide_residual = buffer.require(2 * values), *result = wide_residual + values;
      if (added) half_conversion<T>(capability).widen(added, values, wide_residual);
      finish_rows(sums, added ? wide_residual : nullptr, rows, result);
      half_conversion<T>(capability).narrow(result, values, output + start);
    }
  }

  void finish_rows(const A* sums, const A* added, int64_t rows, A* result) const {
    if (layout.row_size() == sizes.out_channels) {
      return kernels.finish_row(sums, added, negative_slope, rows * sizes.out_channels, result);
    }
    for (int64_t m = 0; m < rows; ++m) {
      for (int64_t group = 0; group < layout.groups; ++group) {
        const int64_t at = m * sizes.out_channels + group * layout.columns;
        kernels.finish_row(sums + m * layout.row_size() + group * layout.vectors * layout.lanes, added ? added + at : nullptr,
                           negative_slope, layout.columns, result + at);
      }
    }
  }
};

Tensor convolve(const Tensor& feats, const Tensor& weight, const Tensor& neighbors, const std::optional<Tensor>& bias,
                const std::optional<Tensor>& residual, double negative_slope, const std::optional<Tensor>& row_order,
                const ConvSizes& sizes) {
  const ScalarType dtype = feats.scalar_type();
  // Weights are rounded to the dtype of the features, as they are on CUDA; they may have any strides.
  const Tensor x = as_contiguous(feats), table = in_row_order(neighbors, row_order);
  const Tensor w = as_dtype(weight, dtype);
  std::optional<Tensor> b, r;
  if (bias) b = as_dtype(as_contiguous(*bias), sum_dtype(dtype));
  if (residual) r = as_contiguous(*residual);
  Tensor output = torch::stable::new_empty(feats, {sizes.num_out, sizes.out_channels}, dtype);
  if (output.numel() == 0) return output;
  prefer_huge_pages(output.data_ptr(), output.numel() * output.element_size());
  dispatch_float(dtype, "sparse_conv", [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const Convolution<T> convolution{sizes,         data_of<T>(x), data_of<int32_t>(table),       data_of<A>(b),
                                     data_of<T>(r), static_cast<A>(negative_slope), data_of<T>(output)};
    convolution.run(data_of<T>(w), {w.stride(0), w.stride(1), w.stride(2)});
  });
  return output;
}

Tensor sparse_conv(Tensor feats, Tensor weight, Tensor neighbors, std::optional<Tensor> reverse_neighbors,
                   std::optional<Tensor> bias, int64_t groups, bool /*allow_tf32*/, std::optional<Tensor> row_order,
                   std::optional<Tensor> reverse_row_order) {
  constexpr const char* op = "sparse_conv";
  const ConvSizes sizes = check_sparse_conv(op, feats, weight, neighbors, reverse_neighbors, bias, groups);
  check_row_order(op, row_order, sizes.num_out);
  check_row_order(op, reverse_row_order, sizes.num_in, "reverse_row_order");
  return convolve(feats, weight, neighbors, bias, std::nullopt, 1.0, row_order, sizes);
}

Tensor sparse_conv_fused(Tensor feats, Tensor weight, Tensor neighbors, std::optional<Tensor> bias,
                         std::optional<Tensor> residual, int64_t groups, bool /*allow_tf32*/, double negative_slope,
                         std::optional<Tensor> row_order) {
  constexpr const char* op = "sparse_conv_fused";
  const ConvSizes sizes = check_sparse_conv(op, feats, weight, neighbors, std::nullopt, bias, groups);
  if (residual.has_value()) check_residual(op, *residual, feats, sizes);
  check_row_order(op, row_order, sizes.num_out);
  return convolve(feats, weight, neighbors, bias, residual, negative_slope, row_order, sizes);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("sparse_conv", TORCH_BOX(&sparse_conv));
  m.impl("sparse_conv_fused", TORCH_BOX(&sparse_conv_fused));
}

}  // namespace pcperc
