// SPDX-License-Identifier: Apache-2.0
#pragma once
// A stable sort by least significant digits for the some 100,000 keys of one scene: a part of a kernel, since the launches of a
// general sort would cost more than the sorting. How many keys there are, and of how many bits, need not be known before the
// kernel runs. Keys are cut into chunks, at most one a block. Before a pass a histogram (chunks, kBins) holds how often each
// digit occurs in each chunk; every block sums up all of it for the places of its keys, moves them tile by tile, and counts
// their next digits for the chunks that they come to lie in.
#include <cub/block/block_scan.cuh>

#include "common/coord_key.h"
#include "cuda/grid_barrier.cuh"

namespace pcperc {

constexpr int kSortThreads = 512, kSortWarps = kSortThreads / 32, kMaxDigitBits = 9, kBins = 1 << kMaxDigitBits;
constexpr int kTileItems = 4;  // keys a thread in a tile
constexpr int kMaxSortBlocks = 128, kHistograms = 3;  // that of a pass, of the next one and of the one behind, which is cleared
static_assert(kBins == kSortThreads, "one thread a digit");

// Blocks of a kernel that sorts at most `count` keys, and the numbers in its histograms.
inline unsigned sort_blocks(int64_t count) { return blocks_together(count, kSortThreads, kMaxSortBlocks); }
inline int64_t histogram_size(unsigned blocks) { return int64_t{kHistograms} * blocks * kBins; }

// How `count` < 2^31 keys are sorted by their lowest `bits`; higher bits are 0 or agree with the order.
struct SortShape {
  int32_t count, chunk_shift = 9, num_passes, digit_bits;  // chunks of 2^chunk_shift keys, a multiple of kSortThreads

  __device__ SortShape(int64_t num_keys, int bits)
      : count(static_cast<int32_t>(num_keys)), num_passes(max((bits + kMaxDigitBits - 1) / kMaxDigitBits, 1)),
        digit_bits(max((bits + num_passes - 1) / num_passes, 1)) {
    // A block reads its own keys and the counts of all chunks: these two are kept in proportion.
    while (num_chunks() > min(gridDim.x, 1u << (chunk_shift - 5))) ++chunk_shift;
  }
  __device__ uint32_t num_chunks() const {
    return static_cast<uint32_t>((int64_t{count} + (int64_t{1} << chunk_shift) - 1) >> chunk_shift);
  }
  __device__ bool has_chunk() const { return blockIdx.x < num_chunks(); }
  __device__ int64_t chunk_begin() const { return int64_t{blockIdx.x} << chunk_shift; }
  __device__ int64_t chunk_end() const { return min(chunk_begin() + (int64_t{1} << chunk_shift), int64_t{count}); }

  template <class Key>
  __device__ uint32_t digit(Key key, int pass) const {
    return static_cast<uint32_t>(key >> (pass * digit_bits)) & ((1u << digit_bits) - 1);
  }
};

// Keys and values of a sort, which goes to and fro between two of these.
template <class Key>
struct SortBuffers {
  Key* keys;
  int32_t* values;  // null without values
};

// Shared memory of a block that sorts.
struct SortStorage {
  using Scan = cub::BlockScan<int32_t, kSortThreads>;
  typename Scan::TempStorage scan;
  int32_t places[kSortWarps][kBins];     // of a warp's first key with each digit in a tile; before that, how many it has
  int32_t before[kBins], in_all[kBins];  // how often a digit occurs in the chunks before, and in all; 0 between passes
};

// The sort of one kernel: a block's part of it, which its blockIdx.x tells.
template <class Key>
class DigitSort {
 public:
  // histograms: (kHistograms, gridDim.x, kBins), with anything in them.
  __device__ DigitSort(SortShape shape, int32_t* histograms, SortStorage& shared)
      : shape_(shape), items_(min(1 << shape.chunk_shift, kTileItems * kSortThreads) / kSortThreads), histograms_(histograms),
        shared_(shared), warp_(threadIdx.x / 32), lane_(threadIdx.x % 32) {}

  // Sort, on all threads of all blocks; returns which of the two holds the result, for all to read. The keys of a block's chunk
  // were written by an earlier kernel or by this block.
  __device__ SortBuffers<Key> run(SortBuffers<Key> from, SortBuffers<Key> to) const {
    __syncthreads();
    if (shape_.has_chunk()) count_first_digits(from.keys);
    wait_for_all_blocks();
    for (int pass = 0; pass < shape_.num_passes; ++pass) {
      if (shape_.has_chunk()) move_keys(from, to, pass);
      wait_for_all_blocks();
      const SortBuffers<Key> moved = to;
      to = from;
      from = moved;
    }
    return from;
  }

 private:
  // The part of a tile that a thread has; each warp has items_ * 32 neighbouring keys.
  struct Tile {
    Key keys[kTileItems];
    int32_t values[kTileItems], ranks[kTileItems];  // ranks: among the keys of the warp with the same digit
  };

  __device__ int32_t* histogram(int pass, int64_t chunk) const {
    return histograms_ + ((pass % kHistograms) * int64_t{gridDim.x} + chunk) * kBins;
  }
  __device__ int64_t place_of(int64_t tile, int item) const { return tile + (warp_ * items_ + item) * 32 + lane_; }

  __device__ void clear_warp_counts() const {
    for (int bin = lane_; bin < kBins; bin += 32) shared_.places[warp_][bin] = 0;
    __syncwarp();
  }

  __device__ void count_first_digits(const Key* keys) const {
    clear_warp_counts();
    for (int64_t i = shape_.chunk_begin() + threadIdx.x; i < shape_.chunk_end(); i += kSortThreads) {
      atomicAdd(&shared_.places[warp_][shape_.digit(keys[i], 0)], 1);
    }
    __syncthreads();
    int32_t count = 0;
    for (int warp = 0; warp < kSortWarps; ++warp) count += shared_.places[warp][threadIdx.x];
    histogram(0, blockIdx.x)[threadIdx.x] = count;
    histogram(1, blockIdx.x)[threadIdx.x] = 0;
    shared_.before[threadIdx.x] = shared_.in_all[threadIdx.x] = 0;
  }

  __device__ void load_tile(SortBuffers<Key> from, int64_t begin, Tile& tile) const {
#pragma unroll
    for (int item = 0; item < kTileItems; ++item) {
      const int64_t i = place_of(begin, item);
      const bool is_key = item < items_ && i < shape_.count;
      tile.keys[item] = is_key ? from.keys[i] : Key{0};
      tile.values[item] = is_key && from.values ? from.values[i] : 0;
    }
  }

  // Rank the keys and count how many with each digit the warp has.
  __device__ void rank_tile(int64_t begin, int pass, Tile& tile) const {
    clear_warp_counts();
    int32_t* const counts = shared_.places[warp_];
#pragma unroll
    for (int item = 0; item < kTileItems; ++item) {
      if (item >= items_) break;
      const bool is_key = place_of(begin, item) < shape_.count;
      const uint32_t digit = is_key ? shape_.digit(tile.keys[item], pass) : kBins;
      const uint32_t peers = __match_any_sync(0xffffffff, digit);
      const int among_peers = __popc(peers & ((1u << lane_) - 1));
      const int32_t earlier = is_key ? counts[digit] : 0;
      __syncwarp();
      if (is_key && among_peers == 0) counts[digit] = earlier + __popc(peers);
      __syncwarp();
      tile.ranks[item] = earlier + among_peers;
    }
  }

  // Add up how often each digit occurs in the chunks before this one, and in all: four digits a thread.
  __device__ void add_histograms(int pass) const {
    const int quads = max(1 << shape_.digit_bits >> 2, 32), num_chunks = static_cast<int>(shape_.num_chunks());
    const int quad = threadIdx.x % quads;
    const int4* counts = reinterpret_cast<const int4*>(histogram(pass, 0)) + quad;
    int4 early{0, 0, 0, 0}, all{0, 0, 0, 0};
#pragma unroll 8
    for (int chunk = threadIdx.x / quads; chunk < num_chunks; chunk += kSortThreads / quads) {
      const int4 count = counts[chunk * (kBins / 4)];
      const int is_early = chunk < static_cast<int>(blockIdx.x);
      all.x += count.x, all.y += count.y, all.z += count.z, all.w += count.w;
      early.x += is_early * count.x, early.y += is_early * count.y, early.z += is_early * count.z, early.w += is_early * count.w;
    }
    const int32_t alls[4] = {all.x, all.y, all.z, all.w}, earlies[4] = {early.x, early.y, early.z, early.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      atomicAdd(shared_.in_all + 4 * quad + i, alls[i]);
      atomicAdd(shared_.before + 4 * quad + i, earlies[i]);
    }
  }

  __device__ void write_tile(SortBuffers<Key> to, int64_t begin, int pass, const Tile& tile) const {
#pragma unroll
    for (int item = 0; item < kTileItems; ++item) {
      if (item >= items_ || place_of(begin, item) >= shape_.count) break;
      const Key key = tile.keys[item];
      const int32_t at = shared_.places[warp_][shape_.digit(key, pass)] + tile.ranks[item];
      to.keys[at] = key;
      if (to.values) to.values[at] = tile.values[item];
      if (pass + 1 < shape_.num_passes) {
        atomicAdd(histogram(pass + 1, at >> shape_.chunk_shift) + shape_.digit(key, pass + 1), 1);
      }
    }
  }

  __device__ void move_keys(SortBuffers<Key> from, SortBuffers<Key> to, int pass) const {
    histogram(pass + 2, blockIdx.x)[threadIdx.x] = 0;
    Tile tile;
    int64_t begin = shape_.chunk_begin();
    load_tile(from, begin, tile);  // these reads are under way while those of the histogram are
    add_histograms(pass);
    rank_tile(begin, pass, tile);
    __syncthreads();
    int32_t place;  // of the block's next key with this thread's digit
    SortStorage::Scan(shared_.scan).ExclusiveSum(shared_.in_all[threadIdx.x], place);
    place += shared_.before[threadIdx.x];
    shared_.before[threadIdx.x] = shared_.in_all[threadIdx.x] = 0;
    while (true) {
      for (int warp = 0; warp < kSortWarps; ++warp) {
        const int32_t count = shared_.places[warp][threadIdx.x];
        shared_.places[warp][threadIdx.x] = place;
        place += count;
      }
      __syncthreads();
      write_tile(to, begin, pass, tile);
      begin += items_ * kSortThreads;
      if (begin >= shape_.chunk_end()) return;
      load_tile(from, begin, tile);
      __syncwarp();  // before other lanes clear what this one still reads
      rank_tile(begin, pass, tile);
      __syncthreads();
    }
  }

  SortShape shape_;
  int items_;
  int32_t* histograms_;
  SortStorage& shared_;
  int warp_, lane_;
};

}  // namespace pcperc
