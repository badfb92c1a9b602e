// SPDX-License-Identifier: Apache-2.0
#pragma once
// Launches of the forward kernels; each kind of arithmetic is compiled in a file of its own. sparse_conv_selection.h chooses.
#include "cuda/sparse_conv_direct.cuh"
#include "cuda/sparse_conv_kernels.cuh"
#include "cuda/sparse_conv_packed.cuh"
#include "cuda/sparse_conv_problem.h"

namespace pcperc {

template <auto kKernel, class T>
void launch_convolve(const ConvArgs<T>& args, Grid grid, int threads, int64_t shared_bytes, cudaStream_t stream) {
  if (shared_bytes > 48 * 1024) allow_shared_memory<kKernel>();
  STD_TORCH_CHECK(grid.x <= INT32_MAX && grid.y <= UINT16_MAX, "sparse_conv: ", grid.x, " x ", grid.y, " blocks are more than a launch takes");
  kKernel<<<dim3(grid.x, grid.y), threads, shared_bytes, stream>>>(args);
  PCPERC_LAUNCH_CHECK();
}

template <class Tile, bool kAligned, class T>
void launch_tile(const ConvArgs<T>& args, cudaStream_t stream) {
  const ConvShape& shape = args.shape;
  const int64_t blocks = ceil_div(shape.num_out, Tile::kRows) * ceil_div(shape.out_width, Tile::kCols) * shape.groups;
  launch_convolve<convolve_kernel<Tile, kAligned>>(args, {blocks}, Tile::kThreads, kConvolveBytes<Tile>, stream);
}

// rows, columns, depth in 16-byte copies, stages, warps over rows and over columns
template <class T, int kRows, int kCols, int kChunks, int kStages, int kWarpRows, int kWarpCols, bool kTransposedB = false>
using ForwardTile = TensorCoreTile<T, kRows, kCols, kChunks, kStages, kWarpRows, kWarpCols, false, kTransposedB>;

// Call f(DirectTile) with the smallest that holds the channels; false where there is none or a block has no room for it.
template <class T, bool kTransposed, class F>
bool with_direct_tile(const ConvShape& shape, const F& f) {
  const int64_t row_bytes = shape.in_width * static_cast<int64_t>(sizeof(T)), cols = shape.out_width;
  const auto run = [&](auto tile) {
    using Tile = decltype(tile);
    if (Tile::bytes(shape.volume) > device_attribute<cudaDevAttrMaxSharedMemoryPerBlockOptin>()) return false;
    f(tile);
    return true;
  };
  if (shape.volume > kTapChunk || row_bytes > 128 || cols > (row_bytes > 64 ? 32 : 64)) return false;
  if (row_bytes > 64) return run(DirectTile<T, 128, 32, kTransposed>{});
  if (cols > 32) return run(DirectTile<T, 64, 64, kTransposed>{});
  if (row_bytes > 32) return cols > 16 ? run(DirectTile<T, 64, 32, kTransposed>{}) : run(DirectTile<T, 64, 16, kTransposed>{});
  return cols > 16 ? run(DirectTile<T, 32, 32, kTransposed>{}) : run(DirectTile<T, 32, 16, kTransposed>{});
}

template <class Tile, class T>
void launch_direct(const ConvArgs<T>& args, cudaStream_t stream) {
  const ConvShape& shape = args.shape;
  const int64_t most = int64_t{Tile::kBlocks} * device_attribute<cudaDevAttrMultiProcessorCount>();
  const int64_t blocks = std::min(ceil_div(shape.num_out, kPieceRows * Tile::kWarps), most);
  launch_convolve<direct_convolve_kernel<Tile>>(args, {blocks, shape.groups}, Tile::kThreads, Tile::bytes(shape.volume), stream);
}

// The first layer's kernel where it takes these sizes; false where it does not.
template <class T>
bool launch_packed(const ConvArgs<T>& args, cudaStream_t stream) {
  const ConvShape& shape = args.shape;
  const auto run = [&](auto tile) {
    using Tile = decltype(tile);
    if (Tile::bytes(shape.volume) > 48 * 1024) return false;
    const int64_t most = int64_t{4} * device_attribute<cudaDevAttrMultiProcessorCount>();
    const int64_t blocks = std::min(ceil_div(shape.num_out, kPieceRows * Tile::kWarps), most);
    launch_convolve<packed_convolve_kernel<Tile>>(args, {blocks, shape.groups}, Tile::kThreads, Tile::bytes(shape.volume), stream);
    return true;
  };
  if (shape.in_width > 8 || shape.out_width > 64) return false;
  const bool is_wide = shape.out_width > 32;
  if (shape.in_width > 4) return is_wide ? run(PackedTile<T, 8, 64, false>{}) : run(PackedTile<T, 8, 32, false>{});
  const bool is_vector = shape.in_width == 4 && reinterpret_cast<uintptr_t>(args.feats) % 8 == 0;
  if (is_vector) return is_wide ? run(PackedTile<T, 4, 64, true>{}) : run(PackedTile<T, 4, 32, true>{});
  return is_wide ? run(PackedTile<T, 4, 64, false>{}) : run(PackedTile<T, 4, 32, false>{});
}

// For half precision, on GPUs with warpgroup products: `kernel` from kWarpgroup128x64 on.
template <class T>
void launch_warpgroup(ConvChoice choice, const ConvArgs<T>& args, cudaStream_t stream);

// A kernel by number on rows that start on 16 bytes.
template <bool kTransposed, class T>
void launch_chosen(ConvChoice choice, const ConvArgs<T>& args, cudaStream_t stream) {
  if (choice.kernel >= kWarpgroup128x64) {
    STD_TORCH_CHECK(sizeof(T) == 2 && has_warpgroup_products(), "sparse_conv: kernel ", choice.kernel, " needs half precision and a Hopper GPU");
    if constexpr (sizeof(T) == 2) launch_warpgroup(choice, args, stream);
    return;
  }
  switch (choice.kernel) {
    case kTile64x32: return launch_tile<ForwardTile<T, 64, 32, 4, 3, 2, 2, kTransposed>, true>(args, stream);
    case kTile64x64: return launch_tile<ForwardTile<T, 64, 64, 4, 3, 2, 2, kTransposed>, true>(args, stream);
    case kTile128x128: return launch_tile<ForwardTile<T, 128, 128, 4, 4, 2, 4, kTransposed>, true>(args, stream);
    case kTile64x64Deep: return launch_tile<ForwardTile<T, 64, 64, 8, 3, 2, 2, kTransposed>, true>(args, stream);
    case kDirect: {
      const bool fits = with_direct_tile<T, kTransposed>(args.shape, [&](auto tile) { launch_direct<decltype(tile)>(args, stream); });
      STD_TORCH_CHECK(fits, "sparse_conv: kernel ", choice.kernel, " takes fewer channels and taps");
      return;
    }
    default: STD_TORCH_CHECK(false, "sparse_conv: no kernel ", choice.kernel);
  }
}

template <class T>
ConvChoice choose_kernel(const ConvShape& shape) {
  ConvProblem problem = problem_of<T>(shape);
  problem.fits_direct = with_direct_tile<T, false>(shape, [](auto) {}) && with_direct_tile<T, true>(shape, [](auto) {});
  return choose_kernel(problem, selection_table());
}

template <int kVector, class T>
void launch_narrow(const ConvArgs<T>& args, cudaStream_t stream) {
  const dim3 threads = narrow_block(args.shape.out_channels / kVector);
  launch_kernel(narrow_conv_kernel<T, kVector>, {ceil_div(args.shape.num_out, threads.y)}, threads, 0, stream, args);
}

// Whether launch_convolution reads weights that lie transposed.
template <class Arithmetic>
bool takes_transposed_weight(const ConvShape& shape, bool aligned) { return Arithmetic::kTensorCores && aligned && !shape.is_narrow(); }

// `tile` < 0 leaves the kernel to the sizes; else it is one of ConvKernel, with 1000 times the blocks that share a tile.
template <class Arithmetic>
void launch_convolution(const ConvArgs<typename Arithmetic::Value>& args, int tile, cudaStream_t stream) {
  using T = typename Arithmetic::Value;
  constexpr int vector = 16 / sizeof(T);
  const ConvShape& shape = args.shape;
  STD_TORCH_CHECK(!args.transposed_weight || takes_transposed_weight<Arithmetic>(shape, args.aligned), "sparse_conv: weights lie transposed");
  if (shape.is_narrow()) {
    return args.aligned && shape.is_depthwise() ? launch_narrow<vector>(args, stream) : launch_narrow<1>(args, stream);
  }
  if constexpr (Arithmetic::kTensorCores) {
    if (!args.aligned) {
      if constexpr (sizeof(T) == 2) {
        if (args.aligned_outputs && launch_packed(args, stream)) return;
      }
      return shape.out_width <= 32 ? launch_tile<ForwardTile<T, 64, 32, 4, 3, 2, 2>, false>(args, stream)
                                   : launch_tile<ForwardTile<T, 64, 64, 4, 3, 2, 2>, false>(args, stream);
    }
    const ConvChoice choice = tile < 0 ? choose_kernel<T>(shape) : ConvChoice{tile % 1000, std::max(tile / 1000, 1)};
    args.transposed_weight ? launch_chosen<true>(choice, args, stream) : launch_chosen<false>(choice, args, stream);
  } else {
    args.aligned ? launch_tile<PlainTile<T, false>, true>(args, stream) : launch_tile<PlainTile<T, false>, false>(args, stream);
  }
}

#define PCPERC_CONVOLUTION(PREFIX, T, kTensorCores)                                                                   \
  PREFIX template void launch_convolution<Arithmetic<T, kTensorCores>>(const ConvArgs<T>&, int, cudaStream_t);

}  // namespace pcperc
