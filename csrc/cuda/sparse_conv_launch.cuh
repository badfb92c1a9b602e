// SPDX-License-Identifier: Apache-2.0
#pragma once
// Choice of tile and launch of the forward kernels. Each kind of arithmetic is compiled in a file of its own.
#include "cuda/sparse_conv_kernels.cuh"

namespace pcperc {

constexpr int64_t kWideTiles = 128;  // so many tiles of 128 x 128 give every multiprocessor of a large GPU one

// rows, columns, depth in 16-byte copies, stages, warps over rows and over columns
template <class T, int kRows, int kCols, int kChunks, int kStages, int kWarpRows, int kWarpCols>
using ForwardTile = TensorCoreTile<T, kRows, kCols, kChunks, kStages, kWarpRows, kWarpCols, false>;

template <class Arithmetic, int kCols>
using SmallTile = std::conditional_t<Arithmetic::kTensorCores, ForwardTile<typename Arithmetic::Value, 64, kCols, 4, 3, 2, 2>,
                                     PlainTile<typename Arithmetic::Value, false>>;

template <class Tile, bool kAligned, class T>
void launch_tile(const ConvArgs<T>& args, cudaStream_t stream) {
  const ConvShape& shape = args.shape;
  const int64_t blocks = ceil_div(shape.num_out, Tile::kRows) * ceil_div(shape.out_width, Tile::kCols) * shape.groups;
  launch_kernel(convolve_kernel<Tile, kAligned>, {blocks}, Tile::kThreads, kConvolveBytes<Tile>, stream, args);
}

// The tiles that tools/tune_sparse_conv.py measures, by number.
template <class T>
void launch_numbered(int tile, const ConvArgs<T>& args, cudaStream_t stream) {
  switch (tile) {
    case 0: return launch_tile<ForwardTile<T, 64, 32, 4, 3, 2, 2>, true>(args, stream);
    case 1: return launch_tile<ForwardTile<T, 64, 64, 4, 3, 2, 2>, true>(args, stream);
    case 2: return launch_tile<ForwardTile<T, 128, 128, 4, 4, 2, 4>, true>(args, stream);
    case 3: return launch_tile<ForwardTile<T, 128, 16, 2, 4, 4, 1>, true>(args, stream);
    case 4: return launch_tile<ForwardTile<T, 64, 16, 2, 4, 4, 1>, true>(args, stream);
    case 5: return launch_tile<ForwardTile<T, 128, 32, 4, 4, 4, 1>, true>(args, stream);
    case 6: return launch_tile<ForwardTile<T, 64, 32, 4, 4, 4, 1>, true>(args, stream);
    case 7: return launch_tile<ForwardTile<T, 128, 64, 4, 4, 4, 1>, true>(args, stream);
    case 8: return launch_tile<ForwardTile<T, 128, 64, 4, 3, 2, 2>, true>(args, stream);
    case 9: return launch_tile<ForwardTile<T, 128, 64, 8, 3, 4, 1>, true>(args, stream);
    case 10: return launch_tile<ForwardTile<T, 128, 128, 4, 4, 2, 2>, true>(args, stream);
    case 11: return launch_tile<ForwardTile<T, 128, 128, 8, 3, 2, 2>, true>(args, stream);
    case 12: return launch_tile<ForwardTile<T, 64, 128, 4, 4, 1, 4>, true>(args, stream);
    case 13: return launch_tile<ForwardTile<T, 256, 128, 4, 4, 4, 2>, true>(args, stream);
    case 14: return launch_tile<ForwardTile<T, 128, 256, 4, 4, 2, 4>, true>(args, stream);
    case 15: return launch_tile<ForwardTile<T, 64, 64, 8, 3, 2, 2>, true>(args, stream);
    default: STD_TORCH_CHECK(false, "sparse_conv: no tile ", tile);
  }
}

// Tiles 100 and up, for half precision, in a build for sm_90a.
template <class T>
void launch_warpgroup(int tile, const ConvArgs<T>& args, cudaStream_t stream);

// The sums run in the same order in every tile, so that a choice by size changes no bit.
template <class Arithmetic, bool kAligned, class T>
void launch_tiles(const ConvArgs<T>& args, int tile, cudaStream_t stream) {
  const ConvShape& shape = args.shape;
  if constexpr (Arithmetic::kTensorCores && kAligned) {
    if constexpr (sizeof(T) == 2) {
      if (tile >= 100) return launch_warpgroup(tile - 100, args, stream);
    }
    if (tile >= 0) return launch_numbered(tile, args, stream);
    const int64_t wide_tiles = ceil_div(shape.num_out, 128) * ceil_div(shape.out_width, 128) * shape.groups;
    if (shape.out_width > 64 && wide_tiles >= kWideTiles) return launch_numbered(2, args, stream);
  }
  if (shape.out_width <= 32) return launch_tile<SmallTile<Arithmetic, 32>, kAligned>(args, stream);
  launch_tile<SmallTile<Arithmetic, 64>, kAligned>(args, stream);
}

template <int kVector, class T>
void launch_narrow(const ConvArgs<T>& args, cudaStream_t stream) {
  const dim3 threads = narrow_block(args.shape.out_channels / kVector);
  launch_kernel(narrow_conv_kernel<T, kVector>, {ceil_div(args.shape.num_out, threads.y)}, threads, 0, stream, args);
}

// `tile` < 0 leaves the choice to the sizes.
template <class Arithmetic>
void launch_convolution(const ConvArgs<typename Arithmetic::Value>& args, bool aligned, int tile, cudaStream_t stream) {
  constexpr int vector = 16 / sizeof(typename Arithmetic::Value);
  if (!args.shape.is_narrow()) {
    return aligned ? launch_tiles<Arithmetic, true>(args, tile, stream) : launch_tiles<Arithmetic, false>(args, tile, stream);
  }
  aligned && args.shape.is_depthwise() ? launch_narrow<vector>(args, stream) : launch_narrow<1>(args, stream);
}

#define PCPERC_CONVOLUTION(PREFIX, T, kTensorCores)                                                                   \
  PREFIX template void launch_convolution<Arithmetic<T, kTensorCores>>(const ConvArgs<T>&, bool, int, cudaStream_t);

}  // namespace pcperc
