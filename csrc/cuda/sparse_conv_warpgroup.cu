// SPDX-License-Identifier: Apache-2.0
#include "cuda/sparse_conv_warpgroup.cuh"

namespace pcperc {

template <class Tile, class T>
void launch_warpgroup_tile(const ConvArgs<T>& args, cudaStream_t stream) {
  const ConvShape& shape = args.shape;
  const int64_t blocks = ceil_div(shape.num_out, Tile::kRows) * ceil_div(shape.out_width, Tile::kCols) * shape.groups;
  launch_kernel(warpgroup_convolve_kernel<Tile>, {blocks}, Tile::kThreads, kWarpgroupBytes<Tile>, stream, args);
}

template <class T>
void launch_warpgroup(int tile, const ConvArgs<T>& args, cudaStream_t stream) {
  switch (tile) {
    case 0: return launch_warpgroup_tile<WarpgroupTile<T, 128, 64, 4>>(args, stream);
    case 1: return launch_warpgroup_tile<WarpgroupTile<T, 128, 128, 3>>(args, stream);
    case 2: return launch_warpgroup_tile<WarpgroupTile<T, 128, 128, 5>>(args, stream);
    case 3: return launch_warpgroup_tile<WarpgroupTile<T, 128, 256, 4>>(args, stream);
    case 4: return launch_warpgroup_tile<WarpgroupTile<T, 256, 128, 4>>(args, stream);
    default: STD_TORCH_CHECK(false, "sparse_conv: no warpgroup tile ", tile);
  }
}

template void launch_warpgroup<__half>(int, const ConvArgs<__half>&, cudaStream_t);
template void launch_warpgroup<__nv_bfloat16>(int, const ConvArgs<__nv_bfloat16>&, cudaStream_t);

}  // namespace pcperc
