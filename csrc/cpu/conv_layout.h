// SPDX-License-Identifier: Apache-2.0
#pragma once
// How the CPU convolution lays out weights and sums: in whole vectors, group by group.
#include <algorithm>

#include "common/parallel.h"
#include "common/sparse_conv_args.h"
#include "cpu/conv_kernels.h"

namespace pcperc {

// Weights are packed as (taps, groups, panels of vectors) and a row of sums is (groups, vectors, lanes); the last vector of a
// group is filled up with zeros. Groups of one channel in and out are taken together as columns of one channel, each of
// which scales its own.
struct ConvLayout {
  int64_t groups, channels, columns, vectors, lanes;
  bool is_depthwise;

  template <class A>
  static ConvLayout of(const ConvSizes& sizes) {
    const bool is_depthwise = sizes.group_in() == 1 && sizes.group_out() == 1;
    const int64_t groups = is_depthwise ? 1 : sizes.groups, columns = sizes.out_channels / groups;
    return {groups, is_depthwise ? 1 : sizes.group_in(), columns, ceil_div(columns, kLanes<A>), kLanes<A>, is_depthwise};
  }

  int64_t row_size() const { return groups * vectors * lanes; }
  int64_t panel_size() const { return vectors * channels * lanes; }  // weights of one tap and group
};

// Strides of a weight (K, Cin / groups, Cout), in elements.
struct WeightStrides {
  int64_t tap, channel, column;
};

// Pack weights into panels (channels, width, lanes) of at most `widest` vectors; with kInterleave, as many channels next to
// each other, lane by lane: (channels / kInterleave, width, lanes, kInterleave).
template <int kInterleave, class From, class To>
void pack_weight(const From* weight, const WeightStrides& strides, int64_t taps, const ConvLayout& layout, int64_t widest,
                 To* packed) {
  parallel_rows(taps * layout.groups, 1, [&](int64_t first, int64_t last) {
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t tap = unit / layout.groups, group = unit % layout.groups;
      const From* from = weight + tap * strides.tap + group * layout.columns * strides.column;
      To* to = packed + unit * layout.panel_size();
      if (layout.columns % layout.lanes != 0) std::fill_n(to, layout.panel_size(), To(0));
      for (int64_t vector = 0; vector < layout.vectors;) {
        const int64_t width = panel_width(layout.vectors - vector, widest) * layout.lanes, column = vector * layout.lanes;
        const int64_t columns = std::min(width, layout.columns - column);
        for (int64_t c = 0; c < layout.channels; ++c) {
          To* row = to + c / kInterleave * kInterleave * width + c % kInterleave;
          for (int64_t j = 0; j < columns; ++j) {
            row[j * kInterleave] = static_cast<To>(from[c * strides.channel + (column + j) * strides.column]);
          }
        }
        to += layout.channels * width;
        vector += width / layout.lanes;
      }
    }
  });
}

// The pairs of each of some taps within a block of output rows, which are numbered from the block's first row.
class PairLists {
 public:
  // Those of the taps [first_tap, last_tap) within the rows [begin, end).
  void find(const int32_t* neighbors, const ConvSizes& sizes, int64_t begin, int64_t end, int64_t first_tap,
            int64_t last_tap) {
    const int64_t taps = last_tap - first_tap, most = taps * (end - begin) + kAheadPairs + 16;
    const FindPairs find_pairs = pcperc::find_pairs(cpu_capability());
    starts_.require(taps + 1)[0] = 0;
    in_rows_.require(most), out_rows_.require(most);
    for (int64_t k = 0; k < taps; ++k) {
      const int32_t* entries = neighbors + (first_tap + k) * sizes.num_out + begin;
      const int64_t start = starts_.data()[k];
      if (k + 1 < taps) fetch_row(entries + sizes.num_out, (end - begin) * static_cast<int64_t>(sizeof(int32_t)));
      const int64_t count = find_pairs(entries, end - begin, sizes.num_in, in_rows_.data() + start, out_rows_.data() + start);
      starts_.data()[k + 1] = start + count;
    }
    // The last tap's rows may be fetched ahead past its end.
    std::fill_n(in_rows_.data() + starts_.data()[taps], kAheadPairs, 0);
    std::fill_n(out_rows_.data() + starts_.data()[taps], kAheadPairs, 0);
  }

  // Taps are numbered from the first one here.
  int64_t count(int64_t tap) const { return start(tap + 1) - start(tap); }
  const int32_t* in_rows(int64_t tap) const { return in_rows_.data() + start(tap); }
  const int32_t* out_rows(int64_t tap) const { return out_rows_.data() + start(tap); }

 private:
  int64_t start(int64_t tap) const { return starts_.data()[tap]; }

  Buffer<int32_t> in_rows_, out_rows_;
  Buffer<int64_t> starts_;
};

// 0, 1, 2, ...: the rows of a buffer that gathered rows were copied to.
template <int64_t kCount>
struct RowNumbers {
  int32_t values[kCount];
  RowNumbers() {
    for (int64_t i = 0; i < kCount; ++i) values[i] = static_cast<int32_t>(i);
  }
};

}  // namespace pcperc
