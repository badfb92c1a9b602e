// SPDX-License-Identifier: Apache-2.0
#pragma once
// The phases of batch norm's kernels: sums of a piece, what the sums of all runs make of each channel, results of a piece.
#include "batch_norm.h"
#include "cuda/batch_norm_rows.cuh"

namespace pcperc {

// partial (2, runs, C): mean and sum of squared deviations of the rows of each run.
template <class T, int kWidth>
__device__ __forceinline__ void sum_moments(const T* feats, const RowLayout& layout, int piece,
                                            Scratch<Accumulator<T>, kWidth>& shared, Accumulator<T>* partial) {
  using A = Accumulator<T>;
  const ThreadRows mine(layout, kWidth, piece);
  A sums[kWidth] = {}, squares[kWidth] = {}, shift[kWidth] = {};
  if (mine.is_active) {
    const auto origin = vector_at<T, kWidth>(feats, mine.first * layout.channels + mine.channel);
#pragma unroll
    for (int v = 0; v < kWidth; ++v) shift[v] = static_cast<A>(origin.values[v]);
    const auto load = [&](int64_t row) { return vector_at<T, kWidth>(feats, row * layout.channels + mine.channel); };
    mine.each<4>(load, [&](int64_t, const Vector<T, kWidth>& values) {
#pragma unroll
      for (int v = 0; v < kWidth; ++v) {
        const A value = static_cast<A>(values.values[v]) - shift[v];
        sums[v] += value, squares[v] += value * value;
      }
    });
  }
  add_lanes<kWidth>(layout, mine.lane, shared, sums, squares);
  if (!mine.is_active || mine.lane) return;
  const A count = static_cast<A>(mine.end - mine.first);
  const int64_t at = mine.run * layout.channels + mine.channel, second = layout.runs * layout.channels;
#pragma unroll
  for (int v = 0; v < kWidth; ++v) {
    const A deviation = squares[v] - sums[v] * (sums[v] / count);
    partial[at + v] = shift[v] + sums[v] / count;
    partial[second + at + v] = deviation > A(0) ? deviation : A(0);
  }
}

// What the gradient of a row is computed from; kActive: whether there is an activation, which has an output.
template <class T, int kWidth, bool kActive>
struct GradVectors {
  using A = Accumulator<T>;
  Vector<T, kWidth> grads, feats, outputs;

  GradVectors() = default;
  __device__ __forceinline__ GradVectors(const BatchNormGrad<T>& args, int64_t at)
      : grads(vector_at<T, kWidth>(args.grad, at)), feats(vector_at<T, kWidth>(args.feats, at)), outputs{} {
    if constexpr (kActive) outputs = vector_at<T, kWidth>(args.out, at);
  }
  // In front of the activation.
  __device__ __forceinline__ A grad(int v, A negative_slope) const {
    const A behind = static_cast<A>(grads.values[v]);
    if constexpr (kActive) return activation_grad(behind, static_cast<A>(outputs.values[v]), negative_slope);
    return behind;
  }
};

// partial (2, runs, C): sums over the rows of each run of g, the gradient in front of the activation, and g * (x - mean).
template <class T, int kWidth, bool kActive>
__device__ __forceinline__ void sum_grads(const BatchNormGrad<T>& args, const RowLayout& layout, int piece,
                                          Scratch<Accumulator<T>, kWidth>& shared, Accumulator<T>* partial) {
  using A = Accumulator<T>;
  const ThreadRows mine(layout, kWidth, piece);
  A sums[kWidth] = {}, products[kWidth] = {};
  if (mine.is_active) {
    A mean[kWidth];
#pragma unroll
    for (int v = 0; v < kWidth; ++v) mean[v] = args.mean[mine.channel + v];
    using Loaded = GradVectors<T, kWidth, kActive>;
    const auto load = [&](int64_t row) { return Loaded(args, row * layout.channels + mine.channel); };
    mine.each<2>(load, [&](int64_t, const Loaded& row) {
#pragma unroll
      for (int v = 0; v < kWidth; ++v) {
        const A grad = row.grad(v, args.negative_slope);
        sums[v] += grad, products[v] += grad * (static_cast<A>(row.feats.values[v]) - mean[v]);
      }
    });
  }
  add_lanes<kWidth>(layout, mine.lane, shared, sums, products);
  if (!mine.is_active || mine.lane) return;
  const int64_t at = mine.run * layout.channels + mine.channel, second = layout.runs * layout.channels;
#pragma unroll
  for (int v = 0; v < kWidth; ++v) partial[at + v] = sums[v], partial[second + at + v] = products[v];
}

// out = act((feats - mean) * scale + bias + residual); kVariance: `spread` is a variance and not 1 / sqrt(variance + eps).
template <class T>
struct NormaliseArgs {
  using A = Accumulator<T>;
  const T *feats, *residual;
  Parameter<T> mean, spread, weight, bias;
  A eps, negative_slope;
  T* out;
};

template <class T, int kWidth, bool kVariance>
__device__ __forceinline__ void normalise(const NormaliseArgs<T>& args, const RowLayout& layout, int piece) {
  using A = Accumulator<T>;
  const ThreadRows mine(layout, kWidth, piece);
  if (!mine.is_active) return;
  A mean[kWidth], scale[kWidth], bias[kWidth], weight[kWidth];
  args.mean.get(mine.channel, 0, mean), args.spread.get(mine.channel, 1, scale);
  args.weight.get(mine.channel, 1, weight), args.bias.get(mine.channel, 0, bias);
#pragma unroll
  for (int v = 0; v < kWidth; ++v) scale[v] = (kVariance ? A(1) / sqrt(scale[v] + args.eps) : scale[v]) * weight[v];
  struct Loaded {
    Vector<T, kWidth> feats, added;
  };
  const auto load = [&](int64_t row) {
    const int64_t at = row * layout.channels + mine.channel;
    Loaded loaded{vector_at<T, kWidth>(args.feats, at), {}};
    if (args.residual) loaded.added = vector_at<T, kWidth>(args.residual, at);
    return loaded;
  };
  mine.each_backwards<2>(load, [&](int64_t row, const Loaded& loaded) {
    Vector<T, kWidth> results;
#pragma unroll
    for (int v = 0; v < kWidth; ++v) {
      const A distance = static_cast<A>(loaded.feats.values[v]) - mean[v], added = static_cast<A>(loaded.added.values[v]);
      results.values[v] = static_cast<T>(activate(distance * scale[v] + bias[v] + added, args.negative_slope));
    }
    put_vector(args.out, row * layout.channels + mine.channel, results);
  });
}

// grad_feats = scale * (g - mean of g - (x - mean) * slope), and g itself where it is asked for.
template <class T, int kWidth, bool kActive>
__device__ __forceinline__ void differentiate(const BatchNormGrad<T>& args, const RowLayout& layout, int piece,
                                              const Accumulator<T>* grad_weight, const Accumulator<T>* grad_bias,
                                              T* grad_feats, T* grad_residual) {
  using A = Accumulator<T>;
  const ThreadRows mine(layout, kWidth, piece);
  if (!mine.is_active) return;
  A mean[kWidth], scale[kWidth], mean_grad[kWidth], slope[kWidth];
  args.weight.get(mine.channel, 1, scale);
  const A part = A(1) / static_cast<A>(layout.rows);
#pragma unroll
  for (int v = 0; v < kWidth; ++v) {
    const int64_t c = mine.channel + v;
    const A invstd = args.invstd[c];
    mean[v] = args.mean[c], scale[v] *= invstd;
    mean_grad[v] = grad_bias[c] * part, slope[v] = grad_weight[c] * invstd * part;
  }
  using Loaded = GradVectors<T, kWidth, kActive>;
  const auto load = [&](int64_t row) { return Loaded(args, row * layout.channels + mine.channel); };
  mine.each_backwards<2>(load, [&](int64_t row, const Loaded& loaded) {
    const int64_t at = row * layout.channels + mine.channel;
    Vector<T, kWidth> before, results;
#pragma unroll
    for (int v = 0; v < kWidth; ++v) {
      const A grad = loaded.grad(v, args.negative_slope);
      before.values[v] = static_cast<T>(grad);
      const A distance = static_cast<A>(loaded.feats.values[v]) - mean[v];
      results.values[v] = static_cast<T>(scale[v] * (grad - mean_grad[v] - distance * slope[v]));
    }
    put_vector(grad_feats, at, results);
    if (grad_residual) put_vector(grad_residual, at, before);
  });
}

}  // namespace pcperc
