// SPDX-License-Identifier: Apache-2.0
#pragma once
// Kernels of batch norm. A thread keeps its columns: one vector of 16 bytes of each of its rows, neighbouring threads
// neighbouring vectors. A block takes a run of rows; the sums of its threads meet in shared memory, those of the blocks in a
// second kernel, each in an order of its own that depends on M and C alone.
#include <type_traits>

#include "batch_norm.h"
#include "common/launch.cuh"

namespace pcperc {

constexpr int kRowsAhead = 4;  // loads of a thread in flight

// kWidth values that are read and written at once.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Vector {
  T values[kWidth];
};

template <class T, int kWidth>
__device__ __forceinline__ Vector<T, kWidth> vector_at(const T* data, int64_t offset) {
  // As memory that nothing writes, so that loads may run ahead of the stores of earlier rows.
  using Bits = std::conditional_t<
      sizeof(T) * kWidth == 16, uint4,
      std::conditional_t<sizeof(T) == 8, unsigned long long, std::conditional_t<sizeof(T) == 4, unsigned, unsigned short>>>;
  union {
    Bits bits;
    Vector<T, kWidth> vector;
  } loaded = {__ldg(reinterpret_cast<const Bits*>(data + offset))};
  return loaded.vector;
}

template <class T, int kWidth>
__device__ __forceinline__ void put_vector(T* data, int64_t offset, const Vector<T, kWidth>& vector) {
  *reinterpret_cast<Vector<T, kWidth>*>(data + offset) = vector;
}

// How rows and columns are dealt to threads: `columns` vectors of a row by `lanes` rows at a time.
struct RowLayout {
  int64_t rows, channels;
  int columns, lanes, rows_per_block;

  RowLayout(int64_t rows, int64_t channels, int width, int bytes, int64_t bytes_per_block, int64_t most_blocks)
      : rows(rows), channels(channels) {
    columns = static_cast<int>(std::min<int64_t>(channels / width, kThreads));
    lanes = kThreads / columns;
    const int64_t blocks = std::clamp<int64_t>(rows * columns * width * bytes / bytes_per_block, 1, most_blocks);
    rows_per_block = static_cast<int>((rows + blocks - 1) / blocks);
  }

  dim3 grid(int width) const {
    const int64_t tiles = (channels / width + columns - 1) / columns;
    return dim3(static_cast<unsigned>(blocks()), static_cast<unsigned>(tiles));
  }
  __host__ __device__ int64_t blocks() const { return (rows + rows_per_block - 1) / rows_per_block; }
};

// What one thread of a block of a RowLayout works on.
struct ThreadRows {
  int lane;
  bool is_active;
  int64_t channel, first, begin, end;  // `first` is the first row of the block, `begin` that of the thread

  __device__ ThreadRows(const RowLayout& layout, int width) {
    const int column = static_cast<int>(threadIdx.x) % layout.columns;
    lane = static_cast<int>(threadIdx.x) / layout.columns;
    channel = (static_cast<int64_t>(blockIdx.y) * layout.columns + column) * width;
    is_active = lane < layout.lanes && channel < layout.channels;
    first = static_cast<int64_t>(blockIdx.x) * layout.rows_per_block;
    begin = first + lane;
    end = min(first + layout.rows_per_block, layout.rows);
  }
};

// Add the two sums that each thread has for each of its channels over the lanes of the block; those of lane 0 are then whole.
template <int kWidth, class A>
__device__ __forceinline__ void add_lanes(const RowLayout& layout, int lane, A (&first)[kWidth], A (&second)[kWidth]) {
  __shared__ A shared[2 * kWidth][kThreads];
#pragma unroll
  for (int v = 0; v < kWidth; ++v) shared[v][threadIdx.x] = first[v], shared[kWidth + v][threadIdx.x] = second[v];
  for (int count = layout.lanes; count > 1;) {
    const int half = (count + 1) / 2;
    __syncthreads();
    if (lane + half < count) {  // lanes that are not used begin behind layout.lanes
      const int other = threadIdx.x + half * layout.columns;
#pragma unroll
      for (int v = 0; v < 2 * kWidth; ++v) shared[v][threadIdx.x] += shared[v][other];
    }
    count = half;
  }
#pragma unroll
  for (int v = 0; v < kWidth; ++v) first[v] = shared[v][threadIdx.x], second[v] = shared[kWidth + v][threadIdx.x];
}

// partial (2, blocks, C): mean and sum of squared deviations of the rows of each block.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    moments_kernel(const T* __restrict__ feats, RowLayout layout, Accumulator<T>* __restrict__ partial, int64_t* num_batches) {
  using A = Accumulator<T>;
  if (num_batches && blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) ++*num_batches;
  const ThreadRows mine(layout, kWidth);
  A sums[kWidth] = {}, squares[kWidth] = {}, shift[kWidth] = {};
  if (mine.is_active) {
    const auto origin = vector_at<T, kWidth>(feats, mine.first * layout.channels + mine.channel);
#pragma unroll
    for (int v = 0; v < kWidth; ++v) shift[v] = static_cast<A>(origin.values[v]);
#pragma unroll kRowsAhead
    for (int64_t row = mine.begin; row < mine.end; row += layout.lanes) {
      const auto values = vector_at<T, kWidth>(feats, row * layout.channels + mine.channel);
#pragma unroll
      for (int v = 0; v < kWidth; ++v) {
        const A value = static_cast<A>(values.values[v]) - shift[v];
        sums[v] += value, squares[v] += value * value;
      }
    }
  }
  add_lanes<kWidth>(layout, mine.lane, sums, squares);
  if (!mine.is_active || mine.lane) return;
  const A count = static_cast<A>(mine.end - mine.first);
  const int64_t at = blockIdx.x * layout.channels + mine.channel, second = layout.blocks() * layout.channels;
#pragma unroll
  for (int v = 0; v < kWidth; ++v) {
    const A deviation = squares[v] - sums[v] * (sums[v] / count);
    partial[at + v] = shift[v] + sums[v] / count;
    partial[second + at + v] = deviation > A(0) ? deviation : A(0);
  }
}

// partial (2, blocks, C): sums over the rows of each block of g, the gradient in front of the activation, and g * (x - mean).
template <class T, int kWidth, bool kActive>
__global__ void __launch_bounds__(kThreads)
    grad_sums_kernel(BatchNormGrad<T> args, RowLayout layout, Accumulator<T>* __restrict__ partial) {
  using A = Accumulator<T>;
  const ThreadRows mine(layout, kWidth);
  A sums[kWidth] = {}, products[kWidth] = {};
  if (mine.is_active) {
    A mean[kWidth];
#pragma unroll
    for (int v = 0; v < kWidth; ++v) mean[v] = args.mean[mine.channel + v];
#pragma unroll kRowsAhead
    for (int64_t row = mine.begin; row < mine.end; row += layout.lanes) {
      const int64_t at = row * layout.channels + mine.channel;
      const auto grads = vector_at<T, kWidth>(args.grad, at), values = vector_at<T, kWidth>(args.feats, at);
      Vector<T, kWidth> outputs{};
      if constexpr (kActive) outputs = vector_at<T, kWidth>(args.out, at);
#pragma unroll
      for (int v = 0; v < kWidth; ++v) {
        A grad = static_cast<A>(grads.values[v]);
        if constexpr (kActive) grad = activation_grad(grad, static_cast<A>(outputs.values[v]), args.negative_slope);
        sums[v] += grad, products[v] += grad * (static_cast<A>(values.values[v]) - mean[v]);
      }
    }
  }
  add_lanes<kWidth>(layout, mine.lane, sums, products);
  if (!mine.is_active || mine.lane) return;
  const int64_t at = blockIdx.x * layout.channels + mine.channel, second = layout.blocks() * layout.channels;
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
__global__ void __launch_bounds__(kThreads) normalise_kernel(NormaliseArgs<T> args, RowLayout layout) {
  using A = Accumulator<T>;
  const ThreadRows mine(layout, kWidth);
  if (!mine.is_active) return;
  A mean[kWidth], scale[kWidth], bias[kWidth], weight[kWidth];
  args.mean.get(mine.channel, 0, mean), args.spread.get(mine.channel, 1, scale);
  args.weight.get(mine.channel, 1, weight), args.bias.get(mine.channel, 0, bias);
#pragma unroll
  for (int v = 0; v < kWidth; ++v) scale[v] = (kVariance ? A(1) / sqrt(scale[v] + args.eps) : scale[v]) * weight[v];
#pragma unroll kRowsAhead
  for (int64_t row = mine.begin; row < mine.end; row += layout.lanes) {
    const int64_t at = row * layout.channels + mine.channel;
    const auto values = vector_at<T, kWidth>(args.feats, at);
    Vector<T, kWidth> added{}, results;
    if (args.residual) added = vector_at<T, kWidth>(args.residual, at);
#pragma unroll
    for (int v = 0; v < kWidth; ++v) {
      const A value = (static_cast<A>(values.values[v]) - mean[v]) * scale[v] + bias[v] + static_cast<A>(added.values[v]);
      results.values[v] = static_cast<T>(activate(value, args.negative_slope));
    }
    put_vector(args.out, at, results);
  }
}

// grad_feats = scale * (g - mean of g - (x - mean) * slope), and g itself where it is asked for.
template <class T, int kWidth, bool kActive>
__global__ void __launch_bounds__(kThreads)
    grad_feats_kernel(BatchNormGrad<T> args, RowLayout layout, const Accumulator<T>* __restrict__ grad_weight,
                      const Accumulator<T>* __restrict__ grad_bias, T* __restrict__ grad_feats, T* __restrict__ grad_residual) {
  using A = Accumulator<T>;
  const ThreadRows mine(layout, kWidth);
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
#pragma unroll kRowsAhead
  for (int64_t row = mine.begin; row < mine.end; row += layout.lanes) {
    const int64_t at = row * layout.channels + mine.channel;
    const auto grads = vector_at<T, kWidth>(args.grad, at), values = vector_at<T, kWidth>(args.feats, at);
    Vector<T, kWidth> outputs{}, before, results;
    if constexpr (kActive) outputs = vector_at<T, kWidth>(args.out, at);
#pragma unroll
    for (int v = 0; v < kWidth; ++v) {
      A grad = static_cast<A>(grads.values[v]);
      if constexpr (kActive) grad = activation_grad(grad, static_cast<A>(outputs.values[v]), args.negative_slope);
      before.values[v] = static_cast<T>(grad);
      const A distance = static_cast<A>(values.values[v]) - mean[v];
      results.values[v] = static_cast<T>(scale[v] * (grad - mean_grad[v] - distance * slope[v]));
    }
    put_vector(grad_feats, at, results);
    if (grad_residual) put_vector(grad_residual, at, before);
  }
}

}  // namespace pcperc
