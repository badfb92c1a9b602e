// SPDX-License-Identifier: Apache-2.0
// The weight gradient by Hopper's warpgroup products (sm_90a), for half precision.
#include "cuda/sparse_conv_weight_grad_launch.cuh"
#include "cuda/warpgroup.cuh"

namespace pcperc {
namespace {

// kRows / 64 warpgroups, each 64 rows x kCols. A and B lie as pairs of 128-byte rows: 64 columns of all pairs, then the next 64.
template <class T, int kRowsOf, int kColsOf, int kDepthOf, int kStagesOf, int kBlocksOf>
struct WarpgroupWeightTile {
  using Value = T;
  using Sum = float;
  static constexpr int kRows = kRowsOf, kCols = kColsOf, kDepth = kDepthOf, kStages = kStagesOf, kBlocks = kBlocksOf;
  static constexpr int kTeamThreads = 2 * kRows, kTeams = 1, kThreads = kTeamThreads;
  static constexpr bool kAsync = true;
  static constexpr int kAhead = kStages - 2;  // the products of the stage before still run when one is multiplied
  static constexpr int kPairBytesA = 128, kPairBytesB = 128, kColumnBytes = kDepth * 128;  // of 64 columns
  static constexpr int kBytesA = kRows / 64 * kColumnBytes, kStageBytes = kBytesA + kCols / 64 * kColumnBytes;
  static_assert(sizeof(T) == 2 && kRows % 64 == 0 && kCols % 64 == 0 && kDepth % 16 == 0 && kAhead > 0, "whole matrices");
  static_assert(kTeamThreads * 8 / kRows % 8 == 0 && kTeamThreads * 8 / kCols % 8 == 0, "the chunks of a thread swizzled alike");
  float sums[kCols / 8][4] = {};

  __device__ static int place_in_a(int pair, int chunk) {
    return chunk / 8 * kColumnBytes + pair * 128 + (chunk % 8 ^ pair % 8) * 16;
  }
  __device__ static int place_in_b(int pair, int chunk) { return kBytesA + place_in_a(pair, chunk); }

  __device__ static void publish() { publish_to_products(); }
  template <int kPending>
  __device__ static void wait() { wait_products<kPending>(); }

  // Begin the products of one stage. Never in a branch: ptxas would then wait after each.
  __device__ __forceinline__ void multiply(const unsigned char* stage) {
    const uint64_t a = describe_matrix(stage + threadIdx.x / 128 * kColumnBytes, kColumnBytes);
    const uint64_t b = describe_matrix(stage + kBytesA, kColumnBytes);
    begin_products();
#pragma unroll
    for (int pair = 0; pair < kDepth; pair += 16) {
      const uint64_t offset = pair * 128 >> 4;  // addresses stand in units of 16 bytes
      WarpgroupProduct<T, kCols / 8, true>::run(sums, a + offset, b + offset);
    }
    commit_products();
  }

  __device__ __forceinline__ void store(float* to, int stride) const {
    const int lane = threadIdx.x % 32;
    float* const from = to + (threadIdx.x / 128 * 64 + threadIdx.x / 32 % 4 * 16 + lane / 4) * stride + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < kCols / 8; ++j) {
      *reinterpret_cast<float2*>(from + 8 * j) = make_float2(sums[j][0], sums[j][1]);
      *reinterpret_cast<float2*>(from + 8 * stride + 8 * j) = make_float2(sums[j][2], sums[j][3]);
    }
  }
};

constexpr int kMatrixAlignment = 1024;

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    warpgroup_weight_grad_kernel(WeightGradArgs<typename Tile::Value> args, int tiles) {
  extern __shared__ __align__(128) unsigned char memory[];
  const uint32_t behind = shared_address(memory) % kMatrixAlignment;
  sum_share<Tile, true>(args, tiles, memory + (kMatrixAlignment - behind) % kMatrixAlignment);
}

template <class Tile>
void launch_tile(const WeightGradLaunch& launch) {
  launch_products<Tile, warpgroup_weight_grad_kernel<Tile>>(launch, kSharedBytes<Tile> + kMatrixAlignment);
}

}  // namespace

// rows and columns of sums, pairs to a stage, stages, blocks
template <class T>
void launch_warpgroup_weight_grad(int tile, const WeightGradLaunch& launch) {
  switch (tile) {
    case 0: return launch_tile<WarpgroupWeightTile<T, 64, 64, 64, 4, 3>>(launch);
    case 1: return launch_tile<WarpgroupWeightTile<T, 64, 128, 64, 4, 2>>(launch);
    case 2: return launch_tile<WarpgroupWeightTile<T, 128, 64, 64, 4, 2>>(launch);
    case 3: return launch_tile<WarpgroupWeightTile<T, 128, 128, 64, 3, 2>>(launch);
    case 4: return launch_tile<WarpgroupWeightTile<T, 128, 128, 32, 6, 2>>(launch);
    case 5: return launch_tile<WarpgroupWeightTile<T, 128, 256, 64, 4, 1>>(launch);
    default: STD_TORCH_CHECK(false, "sparse_conv_weight_grad: no warpgroup tile ", tile);
  }
}

template void launch_warpgroup_weight_grad<__half>(int, const WeightGradLaunch&);
template void launch_warpgroup_weight_grad<__nv_bfloat16>(int, const WeightGradLaunch&);

}  // namespace pcperc
