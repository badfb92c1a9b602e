// SPDX-License-Identifier: Apache-2.0
#pragma once
// The pairs of a neighbour table, packed: what a table of mostly absent neighbours is turned into where each pair costs work.
#include "common/launch.cuh"
#include "common/sparse_conv_args.h"

namespace pcperc {

// Pairs [input row, output row], tap by tap and within a tap by column; those of tap k are [starts[k], starts[k + 1]). There is
// room for a pair of every entry of the table, and behind the last one for those who read kReadAhead too far.
struct TapPairs {
  Tensor storage;  // int32: the pairs, the starts, and what listing them took
  int2* pairs;
  int32_t* starts;  // (K + 1,)
};

constexpr int64_t kReadAhead = 1024;

// The entries of a table whose pairs are listed together: bounds the room for them, and lets an int count them.
constexpr int64_t kMaxListed = int64_t{1} << 25;

// Some columns of a table (K, M) int32, contiguous; K * count <= 2^31 - 1.
struct TableColumns {
  const int32_t* neighbors;
  const int32_t* row_order;  // (M,) the output row of each column, or null: its number; other numbers leave a column out
  int64_t first, count;
};

TapPairs list_pairs(const Tensor& like, const TableColumns& columns, const ConvSizes& sizes, cudaStream_t stream);

// How many columns are listed together.
inline int64_t most_listed_columns(const ConvSizes& sizes) {
  return std::max<int64_t>(kMaxListed / std::max<int64_t>(sizes.volume, 1), 1);
}

// The pairs of a whole table in the storage of an earlier list of them.
TapPairs listed_pairs(const char* op, const Tensor& storage, const ConvSizes& sizes);

}  // namespace pcperc
