// SPDX-License-Identifier: Apache-2.0
#pragma once
// The distinct ones among keys, sorted: threads put keys into a hash set and note their extent; a second kernel lists the set
// with each key packed into the bits that its extent needs; a third one sorts the list by these bits alone and writes the rows.
// The keys of a scene need some 30 of their 64 bits.
//
// With a capacity nothing waits for the GPU: there are `capacity` rows, those behind the keys are padding, and what does not
// fit is left out and reported by a flag.
#include <cub/block/block_scan.cuh>
#include <optional>

#include "common/device_errors.cuh"
#include "common/hash_table.cuh"
#include "common/key_packing.cuh"
#include "cuda/cleared_memory.cuh"
#include "cuda/digit_sort.cuh"

namespace pcperc {

// What the kernels leave for each other and for the host; 0xff before the first.
struct KeySetState {
  ErrorRow bad_input, bad_output;  // the first row out of range, and the first that makes an output out of range
  KeyExtent extent;
  uint32_t last;  // number of keys, less one

  PCPERC_HOST_DEVICE uint32_t num_keys() const { return last + 1; }
};

// Lower the extent in memory by those of the threads of a block; all of them call it.
__device__ inline void merge_extent(const KeyExtent& mine, KeyExtent* extent) {
  constexpr int kValues = 2 * kKeyFields;
  __shared__ uint32_t lowest[kValues];
  if (threadIdx.x < kValues) lowest[threadIdx.x] = ~0u;
  __syncthreads();
  PCPERC_DEVICE_UNROLL
  for (int i = 0; i < kValues; ++i) {
    const uint32_t of_warp = __reduce_min_sync(0xffffffff, mine.lowest[i]);
    if (threadIdx.x % 32 == 0) atomicMin(lowest + i, of_warp);
  }
  __syncthreads();
  if (threadIdx.x < kValues) {
    uint32_t* to = extent->lowest + threadIdx.x;
    // Most blocks lower nothing.
    if (lowest[threadIdx.x] < *static_cast<volatile uint32_t*>(to)) atomicMin(to, lowest[threadIdx.x]);
  }
}

constexpr int kKeysPerThread = 4;

// List the packed keys of a set, as 32 bits each where they fit into them, and their slots where asked for.
static __global__ void list_keys_kernel(DeviceKeySet set, KeyLayout layout, int64_t capacity, KeySetState* state, void* list,
                                        int32_t* slots) {
  using Scan = cub::BlockScan<int, kThreads>;
  __shared__ typename Scan::TempStorage storage;
  __shared__ uint32_t first;
  const KeyPacking packing(layout, state->extent);
  constexpr int kTile = kThreads * kKeysPerThread;
  for (int64_t tile = int64_t{blockIdx.x} * kTile; tile < set.capacity; tile += int64_t{gridDim.x} * kTile) {
    CoordKey keys[kKeysPerThread];
    int count = 0, before, total;
    PCPERC_DEVICE_UNROLL
    for (int i = 0; i < kKeysPerThread; ++i) {
      const int64_t slot = tile + i * kThreads + threadIdx.x;
      keys[i] = slot < set.capacity ? set.keys[slot] : kEmptyKey;
      count += keys[i] != kEmptyKey;
    }
    Scan(storage).ExclusiveSum(count, before, total);
    if (threadIdx.x == 0) first = atomicAdd(&state->last, static_cast<uint32_t>(total)) + 1;
    __syncthreads();
    int64_t place = int64_t{first} + before;
    PCPERC_DEVICE_UNROLL
    for (int i = 0; i < kKeysPerThread; ++i) {
      if (keys[i] == kEmptyKey || place >= capacity) continue;
      if (packing.is_narrow()) {
        static_cast<uint32_t*>(list)[place] = static_cast<uint32_t>(packing.pack(keys[i]));
      } else {
        static_cast<uint64_t*>(list)[place] = packing.pack(keys[i]);
      }
      if (slots) slots[place] = static_cast<int32_t>(tile + i * kThreads + threadIdx.x);
      ++place;
    }
    __syncthreads();  // before the next tile writes `first` and `storage`
  }
}

// The rows that keys were made of, where it is asked which of the sorted ones each became.
struct SourceRows {
  int64_t num_rows = 0;
  const int32_t* slots = nullptr;  // (num_rows,) slot of the key of each in the set, -1 without a key

  // Call visit(source, row) with the sorted row that each became, or -1, on all threads of all blocks of a sort. Several
  // sources at a time, so that their reads are under way together.
  template <class Visit>
  __device__ void visit(const int32_t* row_of_slot, const Visit& visit) const {
    constexpr int kAtATime = 4;
    const int64_t step = int64_t{gridDim.x} * kSortThreads;
    for (int64_t first = int64_t{blockIdx.x} * kSortThreads + threadIdx.x; first < num_rows; first += kAtATime * step) {
      int32_t found[kAtATime], rows[kAtATime];
      PCPERC_DEVICE_UNROLL
      for (int i = 0; i < kAtATime; ++i) found[i] = first + i * step < num_rows ? slots[first + i * step] : -1;
      PCPERC_DEVICE_UNROLL
      for (int i = 0; i < kAtATime; ++i) rows[i] = found[i] < 0 ? -1 : row_of_slot[found[i]];
      PCPERC_DEVICE_UNROLL
      for (int i = 0; i < kAtATime; ++i) {
        if (first + i * step < num_rows) visit(first + i * step, rows[i]);
      }
    }
  }
};

// What is written of the sources beside the sorted rows: clear(row) for each of these first, then, when all are done,
// write(sources, row_of_slot).
struct NothingBeside {
  __device__ void clear(int64_t) const {}
  __device__ void write(const SourceRows&, const int32_t*) const {}
};

struct InverseAndCounts {
  int64_t *inverse, *counts;  // for each source its row or -1; for each row how many sources it has

  __device__ void clear(int64_t row) const { counts[row] = 0; }
  __device__ void write(const SourceRows& sources, const int32_t* row_of_slot) const {
    sources.visit(row_of_slot, [&](int64_t source, int32_t row) {
      inverse[source] = row;
      if (row >= 0) atomicAdd(reinterpret_cast<unsigned long long*>(counts + row), 1ULL);
    });
  }
};

// What a sorted list of keys becomes.
template <class Beside>
struct KeyRows {
  int64_t num_rows;  // rows behind the keys are padding, keys behind the rows are left out
  int32_t* coords;   // (num_rows, 1 + D)
  bool* incomplete;  // null, or whether anything was left out
  SourceRows sources;
  Beside beside;
  int32_t* row_of_slot;  // null without sources; -1 before
};

template <class Key, class Beside>
__device__ void sort_to_rows(KeyLayout layout, const KeyExtent& extent, const SortShape& shape, SortBuffers<void> list,
                             SortBuffers<void> other, int32_t* histograms, SortStorage& shared, const KeyRows<Beside>& rows) {
  const SortBuffers<Key> from{static_cast<Key*>(list.keys), list.values}, to{static_cast<Key*>(other.keys), other.values};
  const SortBuffers<Key> sorted = DigitSort<Key>(shape, histograms, shared).run(from, to);
  const KeyPacking packing(layout, extent);
  PCPERC_GRID_LOOP(i, shape.count) {
    layout.write_row(packing.unpack(sorted.keys[i]), rows.coords + i * layout.columns());
    if (rows.row_of_slot) rows.row_of_slot[sorted.values[i]] = static_cast<int32_t>(i);
  }
}

// Sort the listed keys, as they were packed, between two buffers, and write their rows. For launch_together.
template <class Beside>
static __global__ void __launch_bounds__(kSortThreads, 1)
    sort_keys_kernel(KeyLayout layout, const KeySetState* state, SortBuffers<void> list, SortBuffers<void> other,
                     int32_t* histograms, KeyRows<Beside> rows) {
  __shared__ SortStorage shared;
  const KeyPacking packing(layout, state->extent);
  const SortShape shape(min(int64_t{state->num_keys()}, rows.num_rows), packing.num_bits);
  if (packing.is_narrow()) {
    sort_to_rows<uint32_t>(layout, state->extent, shape, list, other, histograms, shared, rows);
  } else {
    sort_to_rows<uint64_t>(layout, state->extent, shape, list, other, histograms, shared, rows);
  }
  PCPERC_GRID_LOOP(i, rows.num_rows) {
    if (i >= shape.count) layout.write_padding(rows.coords + i * layout.columns());
    if (rows.row_of_slot) rows.beside.clear(i);
  }
  if (rows.incomplete && blockIdx.x == 0 && threadIdx.x == 0) {
    *rows.incomplete = state->num_keys() > rows.num_rows || state->bad_input != kNoError || state->bad_output != kNoError;
  }
  if (rows.row_of_slot) {
    wait_for_all_blocks();
    rows.beside.write(rows.sources, rows.row_of_slot);
  }
}

// The memory of these kernels and their order.
class DistinctKeys {
 public:
  // For `num_candidates` keys; `with_slots`: for write() with sources, one for each candidate.
  DistinctKeys(const Tensor& like, const char* op, KeyLayout layout, int64_t num_candidates, std::optional<int64_t> capacity,
               bool with_slots, cudaStream_t stream)
      : layout_(layout), waits_(!capacity.has_value()), stream_(stream), num_rows_(capacity.value_or(num_candidates)) {
    STD_TORCH_CHECK(std::max(num_candidates, num_rows_) <= INT32_MAX, op, ": more than 2^31 rows, got ", num_candidates);
    const int64_t slots = DeviceKeySet::capacity_for(num_candidates), per_slot = with_slots ? sizeof(int32_t) : 0;
    const int64_t histogram_bytes = histogram_size(sort_blocks(std::max(num_candidates, num_rows_))) * sizeof(int32_t);
    const int64_t set_bytes = sizeof(KeySetState) + slots * (sizeof(CoordKey) + per_slot);
    const int64_t list_bytes = num_rows_ * (sizeof(uint64_t) + per_slot);
    memory_ = empty_on(like, {histogram_bytes + set_bytes + list_bytes}, ScalarType::Byte);
    auto* bytes = static_cast<char*>(memory_.data_ptr());
    histograms_ = reinterpret_cast<int32_t*>(bytes);
    state_ = reinterpret_cast<KeySetState*>(bytes += histogram_bytes);
    set_ = {reinterpret_cast<CoordKey*>(state_ + 1), static_cast<uint32_t>(slots)};
    char* const list = bytes + set_bytes;
    list_ = {list, nullptr};
    other_ = {set_.keys, nullptr};  // a set that is listed is no longer needed, and has two slots for each key
    if (with_slots) {
      row_of_slot_ = reinterpret_cast<int32_t*>(set_.keys + slots);
      list_.values = reinterpret_cast<int32_t*>(list + num_rows_ * sizeof(uint64_t));
      other_.values = reinterpret_cast<int32_t*>(set_.keys + num_candidates);
    }
    uncleared_ = {state_, set_bytes};
  }

  DeviceKeySet set() const { return set_; }
  KeySetState* state() const { return state_; }
  int64_t num_rows() const { return num_rows_; }

  // Launch kernel(memory, args...), which goes over `rows` and puts keys into the set. Once, without rows too.
  template <class... Params, class... Args>
  void insert(void (*kernel)(ClearedMemory, Params...), int64_t rows, Args&&... args) const {
    launch_cleared(kernel, uncleared_, rows, stream_, std::forward<Args>(args)...);
  }

  // List the keys that a kernel has put into the set. Without a capacity: wait, and return the first rows that were wrong.
  KeySetState list() {
    list_keys_kernel<<<grid_size(set_.capacity, kThreads * kKeysPerThread), kThreads, 0, stream_>>>(
        set_, layout_, num_rows_, state_, list_.keys, list_.values);
    PCPERC_LAUNCH_CHECK();
    KeySetState host{kNoError, kNoError, {}, 0};
    if (waits_) {
      copy_to_host(&host, state_, 1, stream_);
      num_rows_ = host.num_keys();
    }
    return host;
  }

  // Sort the list and write it to coords (num_rows, 1 + D), and `beside` it what is made of its sources. Once.
  template <class Beside = NothingBeside>
  void write(const Tensor& coords, bool* incomplete, const SourceRows& sources = {}, const Beside& beside = {}) const {
    const int64_t most_rows = std::max(num_rows_, sources.num_rows);
    if (most_rows == 0) return;
    const KeyRows<Beside> rows{num_rows_, static_cast<int32_t*>(coords.data_ptr()), incomplete, sources, beside, row_of_slot_};
    launch_together(sort_keys_kernel<Beside>, sort_blocks(most_rows), kSortThreads, stream_, layout_, state_, list_, other_,
                    histograms_, rows);
  }

 private:
  Tensor memory_;
  KeyLayout layout_;
  bool waits_;
  cudaStream_t stream_;
  int64_t num_rows_;
  int32_t *histograms_, *row_of_slot_ = nullptr;
  KeySetState* state_;
  ClearedMemory uncleared_;  // state and set, and the rows of its slots
  DeviceKeySet set_;
  SortBuffers<void> list_, other_;
};

}  // namespace pcperc
