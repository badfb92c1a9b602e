// SPDX-License-Identifier: Apache-2.0
#pragma once
// The distinct ones among keys, sorted: threads put keys into a hash set and note their extent; a second kernel lists the set
// with each key packed into the bits that its extent needs; then the list is sorted by these bits alone. The keys of a scene
// need some 30 of their 64 bits.
//
// With a capacity nothing waits for the GPU: lists have `capacity` places, those behind the keys are padding, and what does not
// fit is left out and reported by a flag.
#include <cub/block/block_scan.cuh>
#include <optional>

#include "common/conv_geometry.h"
#include "common/device_errors.cuh"
#include "common/hash_table.cuh"
#include "common/key_packing.h"
#include "cuda/digit_sort.cuh"

namespace pcperc {

// What the kernels leave for each other and for the host; 0xff before.
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

// How keys are packed: as `fixed` says, or, where `is_fixed` is false, as their extent allows.
struct PackingChoice {
  KeyPacking fixed;
  bool is_fixed;

  __device__ KeyPacking packing(const KeySetState& state) const { return is_fixed ? fixed : KeyPacking(fixed.layout, state.extent); }
};

constexpr int kKeysPerThread = 4;

// List the packed keys of a set, as 32 bits each where they fit into them, and their slots where asked for.
static __global__ void list_keys_kernel(DeviceKeySet set, PackingChoice choice, int64_t capacity, KeySetState* state, void* list,
                                        int32_t* slots) {
  using Scan = cub::BlockScan<int, kThreads>;
  __shared__ typename Scan::TempStorage storage;
  __shared__ uint32_t first;
  const KeyPacking packing = choice.packing(*state);
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

// The rows of the sorted keys, padding behind them. Where asked for: the row that the key of each slot became, counts set to
// 0, and whether anything was left out.
static __global__ void write_rows_kernel(const void* sorted, PackingChoice choice, const KeySetState* state, int64_t num_rows,
                                         int32_t* coords, const int32_t* slots, int32_t* row_of_slot, int64_t* counts,
                                         bool* incomplete) {
  const KeyPacking packing = choice.packing(*state);
  const KeyLayout layout = packing.layout;
  PCPERC_GRID_LOOP(i, num_rows) {
    int32_t* row = coords + i * layout.columns();
    if (counts) counts[i] = 0;
    if (i >= state->num_keys()) {
      layout.write_padding(row);
      continue;
    }
    layout.write_row(packing.unpack(packing.is_narrow() ? static_cast<const uint32_t*>(sorted)[i]
                                                        : static_cast<const uint64_t*>(sorted)[i]), row);
    if (slots) row_of_slot[slots[i]] = static_cast<int32_t>(i);
  }
  if (incomplete && blockIdx.x == 0 && threadIdx.x == 0) {
    *incomplete = state->num_keys() > num_rows || state->bad_input != kNoError || state->bad_output != kNoError;
  }
}

// The memory of these kernels and their order.
class DistinctKeys {
 public:
  // For `num_candidates` keys that lie within `bounds`; `with_slots`: also for row_of_slot().
  DistinctKeys(const Tensor& like, const char* op, KeyLayout layout, int64_t num_candidates, std::optional<int64_t> capacity,
               const LatticeBounds& bounds, bool with_slots, cudaStream_t stream)
      : like_(like), choice_{KeyPacking(layout, KeyExtent::of_bounds(layout, bounds)), capacity.has_value()}, stream_(stream),
        num_rows_(capacity.value_or(num_candidates)) {
    STD_TORCH_CHECK(std::max(num_candidates, num_rows_) <= INT32_MAX, op, ": more than 2^31 rows, got ", num_candidates);
    const int64_t slots = DeviceKeySet::capacity_for(num_candidates), per_slot = with_slots ? 4 : 0;
    const int64_t set_bytes = sizeof(KeySetState) + slots * (sizeof(CoordKey) + per_slot);
    memory_ = empty_on(like, {set_bytes + num_rows_ * (int64_t{sizeof(uint64_t)} + per_slot)}, ScalarType::Byte);
    auto* bytes = static_cast<char*>(memory_.data_ptr());
    state_ = reinterpret_cast<KeySetState*>(bytes);
    set_ = {reinterpret_cast<CoordKey*>(bytes + sizeof(KeySetState)), static_cast<uint32_t>(slots)};
    row_of_slot_ = reinterpret_cast<int32_t*>(set_.keys + slots);
    list_ = bytes + set_bytes;
    list_slots_ = with_slots ? reinterpret_cast<int32_t*>(list_ + num_rows_ * sizeof(uint64_t)) : nullptr;
    // Padding is what is left at 0xff: as a key it sorts last.
    PCPERC_CUDA_CHECK(cudaMemsetAsync(bytes, 0xff, capacity ? memory_.numel() : set_bytes, stream));
  }

  DeviceKeySet set() const { return set_; }
  KeySetState* state() const { return state_; }
  int64_t num_rows() const { return num_rows_; }
  const int32_t* row_of_slot() const { return row_of_slot_; }

  // List the keys that kernels have put into the set. Without a capacity: wait, and return the first rows that were wrong.
  KeySetState list() {
    list_keys_kernel<<<grid_size(set_.capacity, kThreads * kKeysPerThread), kThreads, 0, stream_>>>(
        set_, choice_, num_rows_, state_, list_, list_slots_);
    PCPERC_LAUNCH_CHECK();
    KeySetState host{kNoError, kNoError, {}, 0};
    if (!choice_.is_fixed) {
      copy_to_host(&host, state_, 1, stream_);
      num_rows_ = host.num_keys();
      choice_ = {KeyPacking(choice_.fixed.layout, host.extent), true};
    }
    return host;
  }

  // Sort the list and write it to coords (num_rows, 1 + D).
  void write(Tensor& coords, int64_t* counts = nullptr, bool* incomplete = nullptr) const {
    if (num_rows_ == 0) return;
    if (choice_.fixed.is_narrow()) {
      sort_and_write<uint32_t>(coords, counts, incomplete);
    } else {
      sort_and_write<uint64_t>(coords, counts, incomplete);
    }
  }

 private:
  template <class Key>
  void sort_and_write(Tensor& coords, int64_t* counts, bool* incomplete) const {
    const SortShape shape(num_rows_, choice_.fixed.num_bits);
    const Tensor other_keys = empty_on(like_, {num_rows_}, ScalarType::Long);
    const Tensor other_slots = empty_on(like_, {list_slots_ ? num_rows_ : 0}, ScalarType::Int);
    const Tensor histogram_memory = empty_on(like_, {shape.histogram_size()}, ScalarType::Int);
    auto* histograms = static_cast<int32_t*>(histogram_memory.data_ptr());
    const SortBuffers<Key> list{reinterpret_cast<Key*>(list_), list_slots_};
    const SortBuffers<Key> other{static_cast<Key*>(other_keys.data_ptr()),
                                 list_slots_ ? static_cast<int32_t*>(other_slots.data_ptr()) : nullptr};
    PCPERC_CUDA_CHECK(cudaMemsetAsync(histograms, 0, shape.histogram_size() * sizeof(int32_t), stream_));
    count_first_digits_kernel<<<grid_size(num_rows_), kThreads, 0, stream_>>>(list.keys, shape, histograms);
    PCPERC_LAUNCH_CHECK();
    const SortBuffers<Key> sorted = sort_by_digits(list, other, shape, histograms, stream_);
    write_rows_kernel<<<grid_size(num_rows_), kThreads, 0, stream_>>>(
        sorted.keys, choice_, state_, num_rows_, static_cast<int32_t*>(coords.data_ptr()), sorted.values, row_of_slot_, counts,
        incomplete);
    PCPERC_LAUNCH_CHECK();
  }

  Tensor like_, memory_;
  PackingChoice choice_;
  cudaStream_t stream_;
  int64_t num_rows_;
  KeySetState* state_;
  DeviceKeySet set_;
  int32_t *row_of_slot_, *list_slots_;
  char* list_;
};

}  // namespace pcperc
