// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the forward kernels of the sparse convolution are given, and how they store a result.
#include "cuda/sparse_conv_shape.cuh"

namespace pcperc {

template <class T>
struct ConvArgs {
  using Sum = Accumulator<T>;
  const T *feats, *weight;
  const int32_t* neighbors;
  const int32_t* row_order;  // (M): the output row of each column of neighbors, or null: its own
  const Sum* bias;           // (Cout), or null; the same in the type of feats, or null
  const T* narrow_bias;
  const T* residual;         // (M, Cout), or null
  Sum negative_slope;        // 1: no activation
  T* output;
  ConvShape shape;
  bool transposed_weight;  // weight is (K, Cout, Cin / groups) instead of (K, Cin / groups, Cout)
  // Rows of a group start on 16 bytes: in residual and output; in all tensors, those of feats at most 2^32 - 2 times 16 bytes
  // from the first, and the weights of a tap are fewer than 2^32 bytes.
  bool aligned_outputs, aligned;

  // Rows of feats, in copies of 16 bytes.
  __host__ __device__ uint32_t row_copies() const { return static_cast<uint32_t>(shape.in_channels * sizeof(T) / 16); }
  // The output row of a column of the table, or -1 where the order names none.
  __device__ int64_t output_row(int64_t column) const {
    if (!row_order) return column;
    const int64_t row = row_order[column];
    return row < shape.num_out ? row : -1;
  }
};

// The part of the output that a block owns: rows of the table, and channels of one group, blocks of the same rows side by side.
struct OutputTile {
  int64_t row, group, col;  // the first; the column is counted within the group

  __device__ OutputTile(const ConvShape& shape, int64_t tile, int rows, int cols) {
    const int64_t col_tiles = ceil_div(shape.out_width, cols), tiles = shape.groups * col_tiles;
    row = tile / tiles * rows, group = tile % tiles / col_tiles, col = tile % col_tiles * cols;
  }
};

// Store kVector neighbouring channels of an output row at `place`: act(sums + bias + residual), rounded once.
template <int kVector, class T>
__device__ __forceinline__ void store_outputs(const ConvArgs<T>& args, int64_t place, int64_t channel,
                                              Vector<Accumulator<T>, kVector> sums) {
  using Sum = Accumulator<T>;
  if (args.bias) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) sums.values[i] += args.bias[channel + i];
  } else if (args.narrow_bias) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) sums.values[i] += static_cast<Sum>(args.narrow_bias[channel + i]);
  }
  if (args.residual) {
    const auto residual = load_vector<kVector>(args.residual + place);
#pragma unroll
    for (int i = 0; i < kVector; ++i) sums.values[i] += static_cast<Sum>(residual.values[i]);
  }
  if (args.negative_slope != Sum(1)) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      // A slope of 0 makes 0 of minus infinity too; NaN stays.
      if (sums.values[i] < Sum(0)) sums.values[i] = args.negative_slope == Sum(0) ? Sum(0) : sums.values[i] * args.negative_slope;
    }
  }
  Vector<T, kVector> result;
#pragma unroll
  for (int i = 0; i < kVector; ++i) result.values[i] = static_cast<T>(sums.values[i]);
  *reinterpret_cast<Vector<T, kVector>*>(args.output + place) = result;
}

// Store the sums of 16 columns of the table and all channels of a group that a warp has as fragments of C (tensor_core.cuh).
template <class T, int kPieces>
__device__ __forceinline__ void store_piece(const ConvArgs<T>& args, const float (&sums)[kPieces][4], int64_t first_row, int64_t group) {
  const ConvShape& shape = args.shape;
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t column = first_row + g + 8 * half, m = column < shape.num_out ? args.output_row(column) : -1;
    if (m < 0) continue;
    const int64_t channel = group * shape.out_width + 2 * t, place = m * shape.out_channels + channel;
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      if (8 * j + 2 * t >= shape.out_width) break;
      const Vector<float, 2> values = {{sums[j][2 * half], sums[j][2 * half + 1]}};
      store_outputs(args, place + 8 * j, channel + 8 * j, values);
    }
  }
}

}  // namespace pcperc
