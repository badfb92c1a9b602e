// SPDX-License-Identifier: Apache-2.0
// Pairs are listed by two passes over the table: one counts those of each window of columns, one writes them behind those of
// the windows before, whose counts each block adds up itself.
#include "cuda/sparse_conv_pairs.h"

#include <torch/csrc/stable/library.h>

namespace pcperc {
namespace {

constexpr int kRounds = 8, kWarps = kThreads / 32;
constexpr int kPass = kThreads * kRounds;        // columns that a block looks at together, 32 * kRounds a warp
constexpr int64_t kMaxWindows = int64_t{1} << 13;  // bounds what the second pass adds up

struct ListArgs {
  const int32_t* neighbors;  // the first column's entry under tap 0
  const int32_t* row_order;
  int64_t num_out, num_in, first;
  int32_t columns, windows, window_columns;  // of a tap; window_columns is a multiple of kPass
};

struct Window {
  const int32_t* entries;  // of its tap
  int32_t begin, end;

  __device__ explicit Window(const ListArgs& args) {
    const int tap = blockIdx.x / args.windows;
    entries = args.neighbors + tap * args.num_out;
    begin = (blockIdx.x - tap * args.windows) * args.window_columns;
    end = min(begin + args.window_columns, args.columns);
  }
};

// The column of the first of a thread's entries in a pass; the others are 32 on each.
__device__ __forceinline__ int first_column(int pass) { return pass + threadIdx.x / 32 * (32 * kRounds) + threadIdx.x % 32; }

// A thread's pairs in a pass; an input row of -1 where there is none.
struct Pairs {
  int32_t in_rows[kRounds], out_rows[kRounds];

  __device__ __forceinline__ void load(const ListArgs& args, const Window& window, int pass) {
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const int column = first_column(pass) + 32 * i;
      const bool is_column = column < window.end;
      in_rows[i] = is_column ? window.entries[column] : -1;
      out_rows[i] = static_cast<int32_t>(args.first + column);
      if (args.row_order && is_column) out_rows[i] = args.row_order[args.first + column];
    }
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      if (in_rows[i] >= args.num_in || out_rows[i] < 0 || out_rows[i] >= args.num_out) in_rows[i] = -1;
    }
  }
};

// Sum a number of each warp's lane 0 over the block; all threads get it.
__device__ __forceinline__ int sum_warps(int (&sums)[kWarps], int value) {
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  int total = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) total += sums[w];
  return total;
}

__global__ void __launch_bounds__(kThreads) count_pairs_kernel(ListArgs args, int32_t* counts) {
  __shared__ int sums[kWarps];
  const Window window(args);
  int count = 0;
  for (int pass = window.begin; pass < window.end; pass += kPass) {
    Pairs found;
    found.load(args, window, pass);
#pragma unroll
    for (int i = 0; i < kRounds; ++i) count += __popc(__ballot_sync(0xffffffff, found.in_rows[i] >= 0));
  }
  count = sum_warps(sums, count);
  if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

__global__ void __launch_bounds__(kThreads) write_pairs_kernel(ListArgs args, const int32_t* counts, int2* pairs, int32_t* starts) {
  __shared__ int sums[kWarps], warp_counts[kWarps];
  const Window window(args);
  const int warp = threadIdx.x / 32;
  const unsigned lanes_before = (1u << threadIdx.x % 32) - 1;
  Pairs found;
  found.load(args, window, window.begin);  // on their way while the counts are added up
  int before = 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < static_cast<int>(blockIdx.x); i += kThreads) before += counts[i];
  before = sum_warps(sums, __reduce_add_sync(0xffffffff, before));
  if (threadIdx.x == 0) {
    if (window.begin == 0) starts[blockIdx.x / args.windows] = before;
    if (blockIdx.x + 1 == gridDim.x) starts[gridDim.x / args.windows] = before + counts[blockIdx.x];
  }
  for (int pass = window.begin; pass < window.end; pass += kPass) {
    unsigned present[kRounds];
    int count = 0;
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      present[i] = __ballot_sync(0xffffffff, found.in_rows[i] >= 0);
      count += __popc(present[i]);
    }
    if (threadIdx.x % 32 == 0) warp_counts[warp] = count;
    __syncthreads();
    int place = before;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) place += warp_counts[w];
      before += warp_counts[w];
    }
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      if (found.in_rows[i] >= 0) {
        pairs[place + __popc(present[i] & lanes_before)] = make_int2(found.in_rows[i], found.out_rows[i]);
      }
      place += __popc(present[i]);
    }
    found.load(args, window, pass + kPass);
    __syncthreads();  // the counts of the next pass overwrite these
  }
  if (blockIdx.x + 1 == gridDim.x) {  // what is read ahead names rows, though nothing comes of it
    for (int i = threadIdx.x; i < kReadAhead; i += kThreads) pairs[before + i] = make_int2(0, 0);
  }
}

// Where the parts of a list lie in its storage, in int32.
struct ListLayout {
  int64_t starts, counts;

  ListLayout(int64_t volume, int64_t columns) : starts(2 * (volume * columns + kReadAhead)), counts(starts + volume + 1) {}
};

}  // namespace

TapPairs list_pairs(const Tensor& like, const TableColumns& columns, const ConvSizes& sizes, cudaStream_t stream) {
  const int64_t passes = (columns.count + kPass - 1) / kPass;
  const int64_t windows = std::clamp<int64_t>(kMaxWindows / sizes.volume, 1, passes);
  const int64_t window_columns = (passes + windows - 1) / windows * kPass;
  const int64_t blocks = sizes.volume * windows;
  const ListLayout layout(sizes.volume, columns.count);
  const Tensor storage = empty_on(like, {layout.counts + blocks}, ScalarType::Int);
  auto* const numbers = static_cast<int32_t*>(storage.data_ptr());
  const TapPairs list{storage, reinterpret_cast<int2*>(numbers), numbers + layout.starts};
  int32_t* const counts = numbers + layout.counts;
  const ListArgs args{columns.neighbors + columns.first, columns.row_order, sizes.num_out, sizes.num_in, columns.first,
                      static_cast<int32_t>(columns.count), static_cast<int32_t>(windows), static_cast<int32_t>(window_columns)};
  count_pairs_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(args, counts);
  PCPERC_LAUNCH_CHECK();
  write_pairs_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(args, counts, list.pairs, list.starts);
  PCPERC_LAUNCH_CHECK();
  return list;
}

TapPairs listed_pairs(const char* op, const Tensor& storage, const ConvSizes& sizes) {
  const ListLayout layout(sizes.volume, sizes.num_out);
  check_dtype(storage, ScalarType::Int, op, "pairs");
  STD_TORCH_CHECK(storage.is_contiguous() && storage.numel() > layout.counts && sizes.num_out <= most_listed_columns(sizes), op,
                  ": pairs must be list_pairs of neighbors");
  auto* const numbers = static_cast<int32_t*>(storage.data_ptr());
  return {storage, reinterpret_cast<int2*>(numbers), numbers + layout.starts};
}

namespace {

Tensor list_table_pairs(Tensor neighbors, int64_t num_inputs, std::optional<Tensor> row_order) {
  constexpr const char* op = "list_pairs";
  STD_TORCH_CHECK(neighbors.dim() == 2 && num_inputs >= 0, op, ": neighbors must have 2 dimensions, num_inputs be >= 0");
  const ConvSizes sizes{num_inputs, neighbors.size(1), neighbors.size(0), 0, 0, 1};
  check_tables(op, neighbors, std::nullopt, sizes);
  check_row_order(op, row_order, sizes.num_out);
  check_one_device(op, {neighbors, row_order.value_or(neighbors)});
  const CudaScope scope(neighbors);
  if (neighbors.numel() == 0 || sizes.num_out > most_listed_columns(sizes)) return empty_on(neighbors, {0}, ScalarType::Int);
  const Tensor table = as_contiguous(neighbors);
  const std::optional<Tensor> order = as_contiguous(row_order);
  const TableColumns columns{static_cast<int32_t*>(table.data_ptr()),
                             order ? static_cast<int32_t*>(order->data_ptr()) : nullptr, 0, sizes.num_out};
  return list_pairs(neighbors, columns, sizes, scope.stream()).storage;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) { m.impl("list_pairs", TORCH_BOX(&list_table_pairs)); }

}  // namespace pcperc
