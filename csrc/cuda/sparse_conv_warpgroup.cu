// SPDX-License-Identifier: Apache-2.0
// Launches of the forward kernel for Hopper; compiled for sm_90a alone.
#include "cuda/sparse_conv_warpgroup.cuh"

#include "cuda/device_attribute.h"
#include "cuda/sparse_conv_selection.h"

namespace pcperc {

template <class Tile, class T>
void launch_warpgroup_tile(int splits, const ConvArgs<T>& args, cudaStream_t stream) {
  const ConvShape& shape = args.shape;
  const int64_t blocks = ceil_div(shape.num_out, Tile::kRows) * ceil_div(shape.out_width, Tile::kCols) * shape.groups * splits;
  STD_TORCH_CHECK(splits == 1 || (Tile::kCanSplit && (splits == 2 || splits == 4 || splits == 8)), "sparse_conv: no tile of ", Tile::kRows,
                  " x ", Tile::kCols, " in ", splits, " blocks");
  STD_TORCH_CHECK(blocks <= INT32_MAX, "sparse_conv: ", blocks, " blocks are more than a launch takes");
  allow_shared_memory<warpgroup_convolve_kernel<Tile>>();
  cudaLaunchAttribute cluster;
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = splits, cluster.val.clusterDim.y = 1, cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(blocks), config.blockDim = dim3(Tile::kThreads);
  config.dynamicSmemBytes = Tile::kBytes, config.stream = stream;
  config.attrs = &cluster, config.numAttrs = splits > 1 ? 1 : 0;
  PCPERC_CUDA_CHECK(cudaLaunchKernelEx(&config, warpgroup_convolve_kernel<Tile>, args, splits));
}

template <class T, int kRows, int kStages, bool kTransposed>
void launch_96_columns(int splits, const ConvArgs<T>& args, cudaStream_t stream) {
  if (warpgroup_depth(args.shape.in_width, 96) == 48) {
    launch_warpgroup_tile<WarpgroupTile<T, kRows, 96, kStages, kTransposed, 48>>(splits, args, stream);
  } else {
    launch_warpgroup_tile<WarpgroupTile<T, kRows, 96, kStages, kTransposed>>(splits, args, stream);
  }
}

template <bool kTransposed, class T>
void launch_numbered(ConvChoice choice, const ConvArgs<T>& args, cudaStream_t stream) {
  switch (choice.kernel) {
    case kWarpgroup128x64: return launch_warpgroup_tile<WarpgroupTile<T, 128, 64, 4, kTransposed>>(choice.splits, args, stream);
    case kWarpgroup256x64: return launch_warpgroup_tile<WarpgroupTile<T, 256, 64, 4, kTransposed>>(choice.splits, args, stream);
    case kWarpgroup128x96: return launch_96_columns<T, 128, 3, kTransposed>(choice.splits, args, stream);
    case kWarpgroup256x96: return launch_96_columns<T, 256, 4, kTransposed>(choice.splits, args, stream);
    case kWarpgroup128x128: return launch_warpgroup_tile<WarpgroupTile<T, 128, 128, 3, kTransposed>>(choice.splits, args, stream);
    case kWarpgroup256x128: return launch_warpgroup_tile<WarpgroupTile<T, 256, 128, 4, kTransposed>>(choice.splits, args, stream);
    case kWarpgroup128x256: return launch_warpgroup_tile<WarpgroupTile<T, 128, 256, 4, kTransposed>>(choice.splits, args, stream);
    case kWarpgroup192x256: return launch_warpgroup_tile<WarpgroupTile<T, 192, 256, 3, kTransposed>>(choice.splits, args, stream);
    default: STD_TORCH_CHECK(false, "sparse_conv: no kernel ", choice.kernel);
  }
}

template <class T>
void launch_warpgroup(ConvChoice choice, const ConvArgs<T>& args, cudaStream_t stream) {
  args.transposed_weight ? launch_numbered<true>(choice, args, stream) : launch_numbered<false>(choice, args, stream);
}

template void launch_warpgroup<__half>(ConvChoice, const ConvArgs<__half>&, cudaStream_t);
template void launch_warpgroup<__nv_bfloat16>(ConvChoice, const ConvArgs<__nv_bfloat16>&, cudaStream_t);

}  // namespace pcperc
