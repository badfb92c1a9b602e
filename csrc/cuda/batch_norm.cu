// SPDX-License-Identifier: Apache-2.0
// Batch norm with residual and activation: one launch forward, one backward.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cuda/batch_norm_kernels.cuh"

namespace pcperc {
namespace {

constexpr int64_t kSumBytes = 32 << 10, kSumRuns = 512;  // of feats, in a run that is summed, and runs at most
constexpr int64_t kMapBytes = 32 << 10, kMapRuns = 4096;

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

template <class T, int kWidth>
void train(TrainArgs<T> args, const Tensor& feats, cudaStream_t stream) {
  const RowLayout layout(feats.size(0), feats.size(1), kWidth, sizeof(T), kSumBytes, kSumRuns);
  const Tensor partial = empty_on(feats, {2, layout.runs, layout.channels}, statistics_dtype(feats));
  args.partial = data_of<Accumulator<T>>(partial);
  args.set_sizes(layout);
  const unsigned blocks = resident_blocks<train_kernel<T, kWidth>>(layout.blocks(), kThreads);
  launch_together(train_kernel<T, kWidth>, blocks, kThreads, stream, args, layout);
}

template <class T, int kWidth, bool kActive>
void backward(BackwardArgs<T> args, const Tensor& feats, cudaStream_t stream) {
  const RowLayout layout(feats.size(0), feats.size(1), kWidth, sizeof(T), kSumBytes, kSumRuns);
  const Tensor partial = empty_on(feats, {2, layout.runs, layout.channels}, statistics_dtype(feats));
  args.partial = data_of<Accumulator<T>>(partial);
  const unsigned blocks = resident_blocks<backward_kernel<T, kWidth, kActive>>(layout.blocks(), kThreads);
  launch_together(backward_kernel<T, kWidth, kActive>, blocks, kThreads, stream, args, layout);
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
    A *means = data_of<A>(mean), *invstds = data_of<A>(invstd);
    const NormaliseArgs<T> map{data_of<T>(feats),   data_of<T>(residual), {nullptr, means},
                               {nullptr, invstds},  parameter<T>(weight), parameter<T>(bias),
                               static_cast<A>(eps), static_cast<A>(negative_slope), data_of<T>(out)};
    const RunningStatistics<T> running{parameter<T>(running_mean), parameter<T>(running_var),
                                       data_of<int64_t>(num_batches_tracked), momentum};
    const TrainArgs<T> args{map, running, nullptr, means, invstds};
    with_width<T>(channels, {map.feats, map.residual, map.out}, [&](auto width) {
      train<T, decltype(width)::value>(args, feats, scope.stream());
    });
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
    const int64_t channels = feats.size(1);
    with_width<T>(channels, {args.feats, args.residual, args.out}, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const RowLayout layout(feats.size(0), channels, kWidth, sizeof(T), kMapBytes, kMapRuns);
      inference_kernel<T, kWidth><<<layout.pieces, kThreads, 0, scope.stream()>>>(args, layout);
    });
    PCPERC_LAUNCH_CHECK();
  });
  return out;
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
    const BatchNormGrad<T> of{data_of<T>(grad),     data_of<T>(feats),    data_of<T>(out),
                              data_of<A>(mean),     data_of<A>(invstd),   parameter<T>(weight),
                              static_cast<A>(negative_slope), rows, channels};
    const BackwardArgs<T> args{of, nullptr, data_of<A>(grad_weight), data_of<A>(grad_bias), data_of<T>(grad_feats),
                               with_residual ? data_of<T>(grad_residual) : nullptr};
    with_width<T>(channels, {of.grad, of.feats, of.out, args.grad_feats, args.grad_residual}, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      if (out) {
        backward<T, kWidth, true>(args, feats, scope.stream());
      } else {
        backward<T, kWidth, false>(args, feats, scope.stream());
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
