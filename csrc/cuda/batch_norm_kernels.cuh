// SPDX-License-Identifier: Apache-2.0
#pragma once
// Batch norm's kernels, made of the phases in batch_norm.cuh. In training each has three of them, between which its blocks wait
// for one another: sums of runs of rows, parameters of channels, results.
#include "cuda/batch_norm.cuh"

namespace pcperc {

// Blocks of a kernel on a multiprocessor at least: four have 64 registers a thread. The gradients of a vector of eight need 80;
// their reads, up to six at once by a thread, are enough of three blocks too.
constexpr int kForwardBlocks = 4, kBackwardBlocks = 3;

template <class T>
struct TrainArgs {
  using A = Accumulator<T>;
  NormaliseArgs<T> map;
  RunningStatistics<T> running;
  A *partial, *mean, *invstd;  // (2, runs, C); (C,)
  A size = 0, last_size = 0, share = 0, last_share = 0;  // rows of a run, their part of all; of the last one, maybe shorter

  void set_sizes(const RowLayout& layout) {
    const A rows = static_cast<A>(layout.rows);
    size = static_cast<A>(layout.rows_per_run);
    last_size = static_cast<A>(layout.rows - static_cast<int64_t>(layout.runs - 1) * layout.rows_per_run);
    share = size / rows, last_share = last_size / rows;
  }
};

template <class T>
__device__ __forceinline__ void join_moments(const TrainArgs<T>& args, const RowLayout& layout, Accumulator<T>* shared) {
  using A = Accumulator<T>;
  const int64_t channels = layout.channels;
  const int last = layout.runs - 1;
  const A rows = static_cast<A>(layout.rows);
  for_each_channel(channels, [&](int64_t c, bool is_first) {
    const A *means = args.partial + c, *squares = means + layout.runs * channels;
    const A mean = add_runs(layout.runs, shared, [&](A sum, int run) {
      return sum + means[run * channels] * (run < last ? args.share : args.last_share);
    });
    const A deviation = add_runs(layout.runs, shared, [&](A sum, int run) {
      const A distance = means[run * channels] - mean;
      return sum + (squares[run * channels] + (run < last ? args.size : args.last_size) * distance * distance);
    });
    if (!is_first) return;
    args.mean[c] = mean;
    args.invstd[c] = A(1) / sqrt(deviation / rows + args.map.eps);
    args.running.update(c, mean, deviation / (rows - 1));
  });
}

// For launch_together. A block maps the rows that it summed, the last ones first: those are still in the caches. What the runs
// left of a channel is added by one block, for which all wait once more. That is a microsecond or two; were each block to add
// all channels for itself, it would read runs x C x 8 bytes from the L2 cache, 50 to 200 KB at most levels of a U-Net on one
// sweep, as slowly or more so, and where that is less there is little to gain.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, kForwardBlocks) train_kernel(TrainArgs<T> args, RowLayout layout) {
  __shared__ Scratch<Accumulator<T>, kWidth> shared;
  int64_t* const num_batches = args.running.num_batches;
  if (num_batches && blockIdx.x == 0 && threadIdx.x == 0) ++*num_batches;
  for (int piece = blockIdx.x; piece < layout.pieces; piece += gridDim.x) {
    sum_moments<T, kWidth>(args.map.feats, layout, piece, shared, args.partial);
  }
  wait_for_all_blocks();
  join_moments(args, layout, shared[0]);
  wait_for_all_blocks();
  for (int piece = layout.last_piece(); piece >= 0; piece -= static_cast<int>(gridDim.x)) {
    normalise<T, kWidth, false>(args.map, layout, piece);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, kForwardBlocks) inference_kernel(NormaliseArgs<T> args, RowLayout layout) {
  normalise<T, kWidth, true>(args, layout, blockIdx.x);
}

template <class T>
struct BackwardArgs {
  using A = Accumulator<T>;
  BatchNormGrad<T> of;
  A *partial, *grad_weight, *grad_bias;  // (2, runs, C); (C,)
  T *grad_feats, *grad_residual;
};

template <class T>
__device__ __forceinline__ void join_grads(const BackwardArgs<T>& args, const RowLayout& layout, Accumulator<T>* shared) {
  using A = Accumulator<T>;
  for_each_channel(layout.channels, [&](int64_t c, bool is_first) {
    const A *sums = args.partial + c, *products = sums + layout.runs * layout.channels;
    const A grad = add_runs(layout.runs, shared, [&](A sum, int run) { return sum + sums[run * layout.channels]; });
    const A product = add_runs(layout.runs, shared, [&](A sum, int run) { return sum + products[run * layout.channels]; });
    if (!is_first) return;
    args.grad_bias[c] = grad;
    args.grad_weight[c] = product * args.of.invstd[c];
  });
}

// As train_kernel. kActive: whether there is an activation.
template <class T, int kWidth, bool kActive>
__global__ void __launch_bounds__(kThreads, kBackwardBlocks) backward_kernel(BackwardArgs<T> args, RowLayout layout) {
  __shared__ Scratch<Accumulator<T>, kWidth> shared;
  for (int piece = blockIdx.x; piece < layout.pieces; piece += gridDim.x) {
    sum_grads<T, kWidth, kActive>(args.of, layout, piece, shared, args.partial);
  }
  wait_for_all_blocks();
  join_grads(args, layout, shared[0]);
  wait_for_all_blocks();
  for (int piece = layout.last_piece(); piece >= 0; piece -= static_cast<int>(gridDim.x)) {
    differentiate<T, kWidth, kActive>(args.of, layout, piece, args.grad_weight, args.grad_bias, args.grad_feats,
                                      args.grad_residual);
  }
}

}  // namespace pcperc
