// SPDX-License-Identifier: Apache-2.0
// Batch norm with residual and activation: three launches forward (sums of blocks of rows, statistics, results), three
// backward, one for inference.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cuda/batch_norm.cuh"

namespace pcperc {
namespace {

constexpr int kChannelsAtOnce = 32, kGroups = 32;      // of a block that adds the blocks' sums
constexpr int64_t kSumBytes = 32 << 10, kSumBlocks = 512;  // of feats, read by a block of rows, and blocks at most
constexpr int64_t kMapBytes = 32 << 10, kMapBlocks = 4096;

// The sum of f(block) over all blocks, for each of 32 channels: thread (x, y) adds the blocks y, y + 32, ... of channel x.
template <class A, class F>
__device__ __forceinline__ A sum_blocks(int64_t blocks, const F& f) {
  __shared__ A shared[kGroups][kChannelsAtOnce];
  A sum = 0;
#pragma unroll 4
  for (int64_t block = threadIdx.y; block < blocks; block += kGroups) sum += f(block);
  shared[threadIdx.y][threadIdx.x] = sum;
  for (int half = kGroups / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) shared[threadIdx.y][threadIdx.x] += shared[threadIdx.y + half][threadIdx.x];
  }
  __syncthreads();
  sum = shared[0][threadIdx.x];
  __syncthreads();
  return sum;
}

template <class T>
__global__ void __launch_bounds__(kChannelsAtOnce* kGroups)
    statistics_kernel(const Accumulator<T>* __restrict__ partial, RowLayout layout, RunningStatistics<T> running,
                      Accumulator<T> eps, Accumulator<T>* __restrict__ mean, Accumulator<T>* __restrict__ invstd) {
  using A = Accumulator<T>;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kChannelsAtOnce + threadIdx.x, channels = layout.channels;
  const bool is_inside = c < channels;
  const int64_t blocks = is_inside ? layout.blocks() : 0;
  const A rows = static_cast<A>(layout.rows);
  const auto size_of = [&](int64_t block) {
    return static_cast<A>(min(static_cast<int64_t>(layout.rows_per_block), layout.rows - block * layout.rows_per_block));
  };
  const A* deviations = partial + layout.blocks() * channels;
  const A centre = sum_blocks<A>(blocks, [&](int64_t b) { return partial[b * channels + c] * (size_of(b) / rows); });
  const A deviation = sum_blocks<A>(blocks, [&](int64_t b) {
    const A distance = partial[b * channels + c] - centre;
    return deviations[b * channels + c] + size_of(b) * distance * distance;
  });
  if (!is_inside || threadIdx.y) return;
  mean[c] = centre;
  invstd[c] = A(1) / sqrt(deviation / rows + eps);
  running.update(c, centre, deviation / (rows - 1));
}

template <class T>
__global__ void __launch_bounds__(kChannelsAtOnce* kGroups)
    grad_parameters_kernel(const Accumulator<T>* __restrict__ partial, RowLayout layout, const Accumulator<T>* __restrict__ invstd,
                           Accumulator<T>* __restrict__ grad_weight, Accumulator<T>* __restrict__ grad_bias) {
  using A = Accumulator<T>;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kChannelsAtOnce + threadIdx.x, channels = layout.channels;
  const int64_t blocks = c < channels ? layout.blocks() : 0;
  const A* products = partial + layout.blocks() * channels;
  const A sum = sum_blocks<A>(blocks, [&](int64_t b) { return partial[b * channels + c]; });
  const A product = sum_blocks<A>(blocks, [&](int64_t b) { return products[b * channels + c]; });
  if (c >= channels || threadIdx.y) return;
  grad_bias[c] = sum;
  grad_weight[c] = product * invstd[c];
}

bool is_aligned(std::initializer_list<const void*> pointers) {
  for (const void* pointer : pointers) {
    if (reinterpret_cast<uintptr_t>(pointer) % 16) return false;
  }
  return true;
}

// Call f(width) with the values of a vector of 16 bytes as a constant, or with 1 where rows are not made of them.
template <class T, class F>
void with_width(int64_t channels, std::initializer_list<const void*> pointers, const F& f) {
  constexpr int kWidth = 16 / sizeof(T);
  if (channels % kWidth == 0 && is_aligned(pointers)) {
    f(std::integral_constant<int, kWidth>{});
  } else {
    f(std::integral_constant<int, 1>{});
  }
}

template <class A>
unsigned channel_blocks(int64_t channels) {
  return static_cast<unsigned>((channels + kChannelsAtOnce - 1) / kChannelsAtOnce);
}

template <bool kVariance, class T>
void normalise(const NormaliseArgs<T>& args, int64_t rows, int64_t channels, cudaStream_t stream) {
  with_width<T>(channels, {args.feats, args.residual, args.out}, [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    const RowLayout layout(rows, channels, kWidth, sizeof(T), kMapBytes, kMapBlocks);
    normalise_kernel<T, kWidth, kVariance><<<layout.grid(kWidth), kThreads, 0, stream>>>(args, layout);
  });
  PCPERC_LAUNCH_CHECK();
}

std::tuple<Tensor, Tensor, Tensor> batch_norm_train(Tensor feats, std::optional<Tensor> residual,
                                                    std::optional<Tensor> weight, std::optional<Tensor> bias,
                                                    std::optional<Tensor> running_mean, std::optional<Tensor> running_var,
                                                    std::optional<Tensor> num_batches_tracked, double momentum, double eps,
                                                    double negative_slope) {
  constexpr const char* op = "batch_norm_train";
  const CudaScope scope(feats);
  feats = as_contiguous(feats), residual = as_contiguous(residual);
  weight = as_contiguous(weight), bias = as_contiguous(bias);
  check_batch_norm(op, feats, residual, weight, bias, running_mean, running_var);
  check_num_batches(op, num_batches_tracked);
  for (const auto& other : {residual, weight, bias, running_mean, running_var, num_batches_tracked}) {
    if (other) check_one_device(op, {feats, *other});
  }
  const int64_t rows = feats.size(0), channels = feats.size(1);
  const Tensor out = empty_on(feats, {rows, channels}, feats.scalar_type());
  const Tensor mean = empty_on(feats, {channels}, statistics_dtype(feats));
  const Tensor invstd = empty_on(feats, {channels}, statistics_dtype(feats));
  if (out.numel() == 0) return {out, mean, invstd};
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    int64_t* num_batches = data_of<int64_t>(num_batches_tracked);
    const RunningStatistics<T> running{parameter<T>(running_mean), parameter<T>(running_var), num_batches, momentum};
    A *means = data_of<A>(mean), *invstds = data_of<A>(invstd);
    with_width<T>(channels, {feats.data_ptr()}, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const RowLayout layout(rows, channels, kWidth, sizeof(T), kSumBytes, kSumBlocks);
      const Tensor partial = empty_on(feats, {2, layout.blocks(), channels}, statistics_dtype(feats));
      A* sums = data_of<A>(partial);
      moments_kernel<T, kWidth>
          <<<layout.grid(kWidth), kThreads, 0, scope.stream()>>>(data_of<T>(feats), layout, sums, num_batches);
      PCPERC_LAUNCH_CHECK();
      statistics_kernel<T><<<channel_blocks<A>(channels), dim3(kChannelsAtOnce, kGroups), 0, scope.stream()>>>(
          sums, layout, running, static_cast<A>(eps), means, invstds);
      PCPERC_LAUNCH_CHECK();
    });
    const NormaliseArgs<T> args{data_of<T>(feats),    data_of<T>(residual),  {nullptr, means},
                                {nullptr, invstds},   parameter<T>(weight),  parameter<T>(bias),
                                static_cast<A>(eps),  static_cast<A>(negative_slope), data_of<T>(out)};
    normalise<false>(args, rows, channels, scope.stream());
  });
  return {out, mean, invstd};
}

Tensor batch_norm_inference(Tensor feats, std::optional<Tensor> residual, Tensor mean, Tensor var,
                            std::optional<Tensor> weight, std::optional<Tensor> bias, double eps, double negative_slope) {
  constexpr const char* op = "batch_norm_inference";
  const CudaScope scope(feats);
  feats = as_contiguous(feats), residual = as_contiguous(residual);
  weight = as_contiguous(weight), bias = as_contiguous(bias);
  mean = as_contiguous(mean), var = as_contiguous(var);
  check_batch_norm(op, feats, residual, weight, bias, mean, var);
  check_one_device(op, {feats, mean, var});
  for (const auto& other : {residual, weight, bias}) {
    if (other) check_one_device(op, {feats, *other});
  }
  const Tensor out = empty_on(feats, {feats.size(0), feats.size(1)}, feats.scalar_type());
  if (out.numel() == 0) return out;
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const NormaliseArgs<T> args{data_of<T>(feats),   data_of<T>(residual), parameter<T>(mean),
                                parameter<T>(var),   parameter<T>(weight), parameter<T>(bias),
                                static_cast<A>(eps), static_cast<A>(negative_slope), data_of<T>(out)};
    normalise<true>(args, feats.size(0), feats.size(1), scope.stream());
  });
  return out;
}

// Whether there is an activation as a constant.
template <class T, int kWidth, bool kActive>
void differentiate(const BatchNormGrad<T>& args, const Tensor& like, Accumulator<T>* grad_weight, Accumulator<T>* grad_bias,
                   T* grad_feats, T* grad_residual, cudaStream_t stream) {
  using A = Accumulator<T>;
  const RowLayout blocks(args.rows, args.channels, kWidth, sizeof(T), kSumBytes, kSumBlocks);
  const Tensor partial = empty_on(like, {2, blocks.blocks(), args.channels}, statistics_dtype(like));
  A* sums = data_of<A>(partial);
  grad_sums_kernel<T, kWidth, kActive><<<blocks.grid(kWidth), kThreads, 0, stream>>>(args, blocks, sums);
  PCPERC_LAUNCH_CHECK();
  grad_parameters_kernel<T><<<channel_blocks<A>(args.channels), dim3(kChannelsAtOnce, kGroups), 0, stream>>>(
      sums, blocks, args.invstd, grad_weight, grad_bias);
  PCPERC_LAUNCH_CHECK();
  const RowLayout layout(args.rows, args.channels, kWidth, sizeof(T), kMapBytes, kMapBlocks);
  grad_feats_kernel<T, kWidth, kActive><<<layout.grid(kWidth), kThreads, 0, stream>>>(args, layout, grad_weight, grad_bias,
                                                                                    grad_feats, grad_residual);
  PCPERC_LAUNCH_CHECK();
}

std::tuple<Tensor, Tensor, Tensor, Tensor> batch_norm_backward(Tensor grad, Tensor feats, std::optional<Tensor> out,
                                                               Tensor mean, Tensor invstd, std::optional<Tensor> weight,
                                                               bool with_residual, double negative_slope) {
  constexpr const char* op = "batch_norm_backward";
  const CudaScope scope(feats);
  grad = as_contiguous(grad), feats = as_contiguous(feats), out = as_contiguous(out);
  mean = as_contiguous(mean), invstd = as_contiguous(invstd), weight = as_contiguous(weight);
  check_batch_norm_grad(op, grad, feats, out, mean, invstd, weight, with_residual);
  check_one_device(op, {feats, grad, mean, invstd});
  for (const auto& other : {out, weight}) {
    if (other) check_one_device(op, {feats, *other});
  }
  const int64_t rows = feats.size(0), channels = feats.size(1);
  const Tensor grad_feats = empty_on(feats, {rows, channels}, feats.scalar_type());
  const Tensor grad_residual = empty_on(feats, {with_residual ? rows : 0, channels}, feats.scalar_type());
  const Tensor grad_weight = empty_on(feats, {channels}, statistics_dtype(feats));
  const Tensor grad_bias = empty_on(feats, {channels}, statistics_dtype(feats));
  if (feats.numel() == 0) return {grad_feats, grad_residual, grad_weight, grad_bias};
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const BatchNormGrad<T> args{data_of<T>(grad),     data_of<T>(feats),    data_of<T>(out),
                                data_of<A>(mean),     data_of<A>(invstd),   parameter<T>(weight),
                                static_cast<A>(negative_slope), rows, channels};
    T *to = data_of<T>(grad_feats), *beside = with_residual ? data_of<T>(grad_residual) : nullptr;
    A *to_weight = data_of<A>(grad_weight), *to_bias = data_of<A>(grad_bias);
    with_width<T>(channels, {args.grad, args.feats, args.out, to, beside}, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      if (out) {
        differentiate<T, kWidth, true>(args, feats, to_weight, to_bias, to, beside, scope.stream());
      } else {
        differentiate<T, kWidth, false>(args, feats, to_weight, to_bias, to, beside, scope.stream());
      }
    });
  });
  return {grad_feats, grad_residual, grad_weight, grad_bias};
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("batch_norm_train", TORCH_BOX(&pcperc::batch_norm_train));
  m.impl("batch_norm_inference", TORCH_BOX(&pcperc::batch_norm_inference));
  m.impl("batch_norm_backward", TORCH_BOX(&pcperc::batch_norm_backward));
}
