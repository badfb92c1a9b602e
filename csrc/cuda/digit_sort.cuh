// SPDX-License-Identifier: Apache-2.0
#pragma once
// A stable sort by least significant digits for the some 100,000 keys of one scene: one kernel a digit, and no other work between
// them, where the launches of a general sort would cost more than the sorting. Keys are cut into at most 128 chunks, a block
// each. Before a pass `histogram` (chunks, kBins) holds how often each digit occurs in each chunk; every block sums up all of
// it for the places of its keys, moves them, and counts their next digits for the chunks that they come to lie in.
#include <cub/block/block_scan.cuh>
#include <utility>

#include "common/coord_key.h"
#include "common/launch.cuh"

namespace pcperc {

constexpr int kSortThreads = 512, kSortWarps = kSortThreads / 32, kMaxDigitBits = 9, kBins = 1 << kMaxDigitBits;
constexpr int kMaxChunks = 128;
static_assert(kBins == kSortThreads, "one thread a digit");

// How `count` < 2^31 keys are sorted by their lowest `bits`; higher bits are 0 or agree with the order.
struct SortShape {
  int32_t count, chunk_shift = 9, num_passes, digit_bits;  // chunks of 2^chunk_shift keys, a multiple of kSortThreads

  SortShape(int64_t num_keys, int bits)
      : count(static_cast<int32_t>(num_keys)), num_passes(std::max((bits + kMaxDigitBits - 1) / kMaxDigitBits, 1)),
        digit_bits(std::max((bits + num_passes - 1) / num_passes, 1)) {
    while (num_chunks() > kMaxChunks) ++chunk_shift;
  }
  PCPERC_HOST_DEVICE int64_t num_chunks() const { return (int64_t{count} + (1 << chunk_shift) - 1) >> chunk_shift; }
  // Numbers in the histograms of all passes.
  int64_t histogram_size() const { return num_passes * num_chunks() * kBins; }

  template <class Key>
  __device__ uint32_t digit(Key key, int pass) const {
    return static_cast<uint32_t>(key >> (pass * digit_bits)) & ((1u << digit_bits) - 1);
  }

  // Note, for a later pass, that a key lies at `place`; `histograms`: of all passes.
  template <class Key>
  __device__ void count_digit(int32_t* histograms, int64_t place, Key key, int pass) const {
    const int64_t chunk = pass * num_chunks() + (place >> chunk_shift);
    atomicAdd(histograms + chunk * kBins + digit(key, pass), 1);
  }
};

template <class Key>
static __global__ void count_first_digits_kernel(const Key* keys, SortShape shape, int32_t* histograms) {
  PCPERC_GRID_LOOP(i, shape.count) shape.count_digit(histograms, i, keys[i], 0);
}

// values may be null.
template <class Key>
static __global__ void __launch_bounds__(kSortThreads)
    sort_pass_kernel(const Key* keys, const int32_t* values, Key* sorted, int32_t* sorted_values, SortShape shape, int pass,
                     int32_t* histograms) {
  using Scan = cub::BlockScan<int32_t, kSortThreads>;
  __shared__ typename Scan::TempStorage storage;
  __shared__ int32_t places[kSortWarps][kBins];  // of a warp's next key with each digit; before that, how many it has
  __shared__ int32_t before[kBins], in_all[kBins];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int other = 0; other < kSortWarps; ++other) places[other][threadIdx.x] = 0;
  before[threadIdx.x] = in_all[threadIdx.x] = 0;
  __syncthreads();

  // How often each digit occurs in the chunks before this one, and in all: four digits a thread, four chunks at a time.
  constexpr int kQuads = kBins / 4;
  const int quad = threadIdx.x % kQuads, num_chunks = static_cast<int>(shape.num_chunks());
  const int4* counts = reinterpret_cast<const int4*>(histograms + int64_t{pass} * num_chunks * kBins) + quad;
  int4 early{0, 0, 0, 0}, all{0, 0, 0, 0};
#pragma unroll 8
  for (int chunk = threadIdx.x / kQuads; chunk < num_chunks; chunk += kSortThreads / kQuads) {
    const int4 count = counts[chunk * kQuads];
    const int is_early = chunk < static_cast<int>(blockIdx.x);
    all.x += count.x, all.y += count.y, all.z += count.z, all.w += count.w;
    early.x += is_early * count.x, early.y += is_early * count.y, early.z += is_early * count.z, early.w += is_early * count.w;
  }
  const int32_t alls[4] = {all.x, all.y, all.z, all.w}, earlies[4] = {early.x, early.y, early.z, early.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    atomicAdd(in_all + 4 * quad + i, alls[i]);
    atomicAdd(before + 4 * quad + i, earlies[i]);
  }

  // Each warp has a part of the chunk.
  const int64_t part = int64_t{1} << shape.chunk_shift >> 4, begin = (int64_t{blockIdx.x} << shape.chunk_shift) + warp * part;
  const int64_t end = min(begin + part, static_cast<int64_t>(shape.count));
  for (int64_t i = begin + lane; i < end; i += 32) atomicAdd(&places[warp][shape.digit(keys[i], pass)], 1);
  __syncthreads();
  int32_t place;
  Scan(storage).ExclusiveSum(in_all[threadIdx.x], place);
  place += before[threadIdx.x];
  for (int other = 0; other < kSortWarps; ++other) {
    const int32_t count = places[other][threadIdx.x];
    places[other][threadIdx.x] = place;
    place += count;
  }
  __syncthreads();

  for (int64_t first = begin; first < end; first += 32) {
    const int64_t i = first + lane;
    const bool is_key = i < end;
    const Key key = is_key ? keys[i] : Key{0};
    const uint32_t digit = is_key ? shape.digit(key, pass) : kBins;
    const uint32_t peers = __match_any_sync(0xffffffff, digit);
    const int rank = __popc(peers & ((1u << lane) - 1));
    const int32_t to = is_key ? places[warp][digit] + rank : 0;
    __syncwarp();
    if (is_key && rank == 0) places[warp][digit] += __popc(peers);
    __syncwarp();
    if (!is_key) continue;
    sorted[to] = key;
    if (values) sorted_values[to] = values[i];
    if (pass + 1 < shape.num_passes) shape.count_digit(histograms, to, key, pass + 1);
  }
}

// Keys and values of a sort, which goes to and fro between two of these.
template <class Key>
struct SortBuffers {
  Key* keys;
  int32_t* values;  // null without values
};

// Sort; the digits of the first pass are counted, the other histograms are 0. Returns which of the two holds the result.
template <class Key>
SortBuffers<Key> sort_by_digits(SortBuffers<Key> from, SortBuffers<Key> to, const SortShape& shape, int32_t* histograms,
                                cudaStream_t stream) {
  for (int pass = 0; pass < shape.num_passes; ++pass) {
    sort_pass_kernel<Key><<<static_cast<unsigned>(shape.num_chunks()), kSortThreads, 0, stream>>>(
        from.keys, from.values, to.keys, to.values, shape, pass, histograms);
    PCPERC_LAUNCH_CHECK();
    std::swap(from, to);
  }
  return from;
}

}  // namespace pcperc
