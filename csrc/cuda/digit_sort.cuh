// SPDX-License-Identifier: Apache-2.0
#pragma once
// A stable sort by least significant digits for the some 100,000 keys of one scene: a part of a kernel, since the launches of a
// general sort would cost more than the sorting. How many keys there are, and of how many bits, need not be known before the
// kernel runs. Keys are cut into chunks, at most one a block. Before a pass a histogram (chunks, kBins) holds how often each
// digit occurs in each chunk; every block sums up all of it for the places of its keys, moves them, and counts their next
// digits for the chunks that they come to lie in.
#include <cub/block/block_scan.cuh>

#include "common/coord_key.h"
#include "cuda/grid_barrier.cuh"

namespace pcperc {

constexpr int kSortThreads = 512, kSortWarps = kSortThreads / 32, kMaxDigitBits = 9, kBins = 1 << kMaxDigitBits;
constexpr int kMaxSortBlocks = 128, kHistograms = 3;  // that of a pass, of the next one and of the one behind, which is cleared
static_assert(kBins == kSortThreads, "one thread a digit");

// Blocks of a kernel that sorts at most `count` keys, and the numbers in its histograms.
inline unsigned sort_blocks(int64_t count) { return blocks_together(count, kSortThreads, kMaxSortBlocks); }
inline int64_t histogram_size(unsigned blocks) { return int64_t{kHistograms} * blocks * kBins; }

// How `count` < 2^31 keys are sorted by their lowest `bits`; higher bits are 0 or agree with the order.
struct SortShape {
  int32_t count, chunk_shift = 9, num_passes, digit_bits;  // chunks of 2^chunk_shift keys, a multiple of kSortThreads

  PCPERC_HOST_DEVICE static int32_t passes_for(int bits) { return bits > 0 ? (bits + kMaxDigitBits - 1) / kMaxDigitBits : 1; }
  __device__ SortShape(int64_t num_keys, int bits)
      : count(static_cast<int32_t>(num_keys)), num_passes(passes_for(bits)),
        digit_bits(bits > 0 ? (bits + num_passes - 1) / num_passes : 1) {
    while (num_chunks() > gridDim.x) ++chunk_shift;
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
  int32_t places[kSortWarps][kBins];  // of a warp's next key with each digit; before that, how many it has
  int32_t before[kBins], in_all[kBins];
};

// The sort of one kernel: of a block's part of it, told by blockIdx.x.
template <class Key>
class DigitSort {
 public:
  // histograms: (kHistograms, gridDim.x, kBins), with anything in them.
  __device__ DigitSort(SortShape shape, int32_t* histograms, SortStorage& shared)
      : shape_(shape), histograms_(histograms), shared_(shared), warp_(threadIdx.x / 32), lane_(threadIdx.x % 32) {
    // Each warp has a part of the chunk.
    const int64_t part = (int64_t{1} << shape.chunk_shift) / kSortWarps;
    begin_ = shape.chunk_begin() + warp_ * part;
    end_ = min(begin_ + part, int64_t{shape.count});
  }

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
  __device__ int32_t* histogram(int pass, int64_t chunk) const {
    return histograms_ + ((pass % kHistograms) * int64_t{gridDim.x} + chunk) * kBins;
  }

  // How many keys with each digit each warp has.
  __device__ void count_by_warp(const Key* keys, int pass) const {
    for (int bin = lane_; bin < kBins; bin += 32) shared_.places[warp_][bin] = 0;
    __syncwarp();
    for (int64_t i = begin_ + lane_; i < end_; i += 32) atomicAdd(&shared_.places[warp_][shape_.digit(keys[i], pass)], 1);
  }

  __device__ void count_first_digits(const Key* keys) const {
    count_by_warp(keys, 0);
    __syncthreads();
    int32_t count = 0;
    for (int warp = 0; warp < kSortWarps; ++warp) count += shared_.places[warp][threadIdx.x];
    histogram(0, blockIdx.x)[threadIdx.x] = count;
    histogram(1, blockIdx.x)[threadIdx.x] = 0;
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

  __device__ void move_keys(SortBuffers<Key> from, SortBuffers<Key> to, int pass) const {
    shared_.before[threadIdx.x] = shared_.in_all[threadIdx.x] = 0;
    histogram(pass + 2, blockIdx.x)[threadIdx.x] = 0;
    if (pass > 0) count_by_warp(from.keys, pass);  // the counts of the first pass are still there
    __syncthreads();
    add_histograms(pass);
    __syncthreads();
    int32_t place;
    SortStorage::Scan(shared_.scan).ExclusiveSum(shared_.in_all[threadIdx.x], place);
    place += shared_.before[threadIdx.x];
    for (int warp = 0; warp < kSortWarps; ++warp) {
      const int32_t count = shared_.places[warp][threadIdx.x];
      shared_.places[warp][threadIdx.x] = place;
      place += count;
    }
    __syncthreads();

    for (int64_t first = begin_; first < end_; first += 32) {
      const int64_t i = first + lane_;
      const bool is_key = i < end_;
      const Key key = is_key ? from.keys[i] : Key{0};
      const uint32_t digit = is_key ? shape_.digit(key, pass) : kBins;
      const uint32_t peers = __match_any_sync(0xffffffff, digit);
      const int rank = __popc(peers & ((1u << lane_) - 1));
      const int32_t at = is_key ? shared_.places[warp_][digit] + rank : 0;
      __syncwarp();
      if (is_key && rank == 0) shared_.places[warp_][digit] += __popc(peers);
      __syncwarp();
      if (!is_key) continue;
      to.keys[at] = key;
      if (to.values) to.values[at] = from.values[i];
      if (pass + 1 < shape_.num_passes) {
        atomicAdd(histogram(pass + 1, at >> shape_.chunk_shift) + shape_.digit(key, pass + 1), 1);
      }
    }
  }

  SortShape shape_;
  int32_t* histograms_;
  SortStorage& shared_;
  int warp_, lane_;
  int64_t begin_, end_;
};

}  // namespace pcperc
