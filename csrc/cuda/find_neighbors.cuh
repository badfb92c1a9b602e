// SPDX-License-Identifier: Apache-2.0
#pragma once
// The rows that the taps of output voxels meet. Kernels of 2 x 2 x 2 and 3 x 3 x 3 adjacent taps find the blocks of voxels under
// all their taps at once, one thread an output; others go from tap to tap along the last axis, one thread an output and a line
// of taps.
#include "common/conv_geometry.h"
#include "common/device_errors.cuh"
#include "common/hash_table.cuh"

namespace pcperc {
namespace {

constexpr int kWindowThreads = 128;

// A kernel of `size` adjacent taps along each of three axes.
struct TapWindow {
  int32_t stride[3], padding[3];

  static bool covers(const ConvGeometry& geometry, int size) {
    bool covers = geometry.layout.dims == 3;
    for (int axis = 0; axis < 3; ++axis) covers = covers && geometry.kernel[axis] == size && geometry.dilation[axis] == 1;
    return covers;
  }
  explicit TapWindow(const ConvGeometry& geometry) {
    std::copy_n(geometry.stride, 3, stride);
    std::copy_n(geometry.padding, 3, padding);
  }
};

// Of the two blocks that a window meets along an axis, the one that tap `tap` lies in; `odd`: the first tap is the second
// voxel of the first block.
template <class T>
__device__ T block_under(int tap, bool odd, T first, T second) {
  return tap == 0 ? first : tap == 2 ? second : odd ? second : first;
}

template <int kSize>
__global__ void __launch_bounds__(kWindowThreads, 8)
    find_windows_kernel(DeviceVoxelBlocks voxels, TapWindow window, const int32_t* out_coords, int64_t num_out,
                        int32_t* neighbors, ErrorRow* bad_row) {
  constexpr KeyLayout layout(3);
  PCPERC_GRID_LOOP(m, num_out) {
    const int32_t* row = out_coords + m * layout.columns();
    const CoordKey out = layout.row_key(row);
    if (layout.is_bad(out, row)) report_error(bad_row, m);
    // Along each axis the first tap and the blocks, which lie in range as a whole or not at all.
    bool odd[3], exists[3][2];
    CoordKey part[3][2];
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      const int64_t first = static_cast<int64_t>(window.stride[axis]) * row[1 + axis] - window.padding[axis];
      odd[axis] = first & 1;
#pragma unroll
      for (int block = 0; block < 2; ++block) {
        const int64_t at = first - odd[axis] + 2 * block;
        exists[axis][block] = out != kEmptyKey && layout.in_range(at) && odd[axis] + kSize > 2 * block;
        part[axis][block] = layout.axis_key(axis, at);
      }
    }
    // Begin all searches, then finish them: their first reads are under way together.
    CoordKey keys[8], seen[8];
    uint32_t home[8];
#pragma unroll
    for (int block = 0; block < 8; ++block) {
      const int x = block >> 2, y = block >> 1 & 1, z = block & 1;
      keys[block] = layout.batch_key(out) | part[0][x] | part[1][y] | part[2][z];
      home[block] = voxels.blocks.home(keys[block]);
      seen[block] = exists[0][x] && exists[1][y] && exists[2][z] ? __ldg(voxels.blocks.keys + home[block]) : kEmptyKey;
    }
    const int32_t* rows[8];  // the 8 rows of a block, or null
#pragma unroll
    for (int block = 0; block < 8; ++block) {
      const int64_t slot = voxels.blocks.find(keys[block], home[block], seen[block]);
      rows[block] = slot < 0 ? nullptr : voxels.rows + slot * 8;
    }
    int32_t* to = neighbors + m;
#pragma unroll
    for (int x = 0; x < kSize; ++x) {
#pragma unroll
      for (int y = 0; y < kSize; ++y) {
        const int32_t* line[2];
#pragma unroll
        for (int z = 0; z < 2; ++z) {
          line[z] = block_under(x, odd[0], block_under(y, odd[1], rows[z], rows[2 + z]),
                                block_under(y, odd[1], rows[4 + z], rows[6 + z]));
        }
        const int corner = ((odd[0] + x) & 1) << 2 | ((odd[1] + y) & 1) << 1;
#pragma unroll
        for (int z = 0; z < kSize; ++z) {
          const int32_t* block = block_under(z, odd[2], line[0], line[1]);
          *to = block ? __ldg(block + (corner | ((odd[2] + z) & 1))) : -1;
          to += num_out;
        }
      }
    }
  }
}

// Taps that differ along the last axis only are a line, blockIdx.y its number.
template <int kDims>
__global__ void find_lines_kernel(DeviceVoxelBlocks voxels, ConvGeometry geometry, const int32_t* out_coords, int64_t num_out,
                                 int32_t* neighbors, ErrorRow* bad_row) {
  constexpr KeyLayout layout(kDims);
  constexpr int kLast = kDims - 1;
  int32_t tap[kDims], line = blockIdx.y;
#pragma unroll
  for (int axis = kLast - 1; axis >= 0; --axis) {
    tap[axis] = line % geometry.kernel[axis];
    line /= geometry.kernel[axis];
  }
  PCPERC_GRID_LOOP(m, num_out) {
    const int32_t* row = out_coords + m * layout.columns();
    const CoordKey out = layout.row_key(row);
    if (layout.is_bad(out, row)) report_error(bad_row, m);
    bool exists = out != kEmptyKey;
    CoordKey line_key = layout.batch_key(out);
#pragma unroll
    for (int axis = 0; axis < layout.axes; ++axis) {
      if (axis == kLast) continue;
      const int64_t value = axis < kLast ? geometry.fine(axis, row[1 + axis], tap[axis]) : 0;
      exists = exists && layout.in_range(value);
      line_key |= layout.axis_key(axis, value);
    }
    int32_t* to = neighbors + static_cast<int64_t>(blockIdx.y) * geometry.kernel[kLast] * num_out + m;
    CoordKey block = kEmptyKey;
    const int32_t* rows = nullptr;  // of that block
    for (int32_t last_tap = 0; last_tap < geometry.kernel[kLast]; ++last_tap, to += num_out) {
      const int64_t value = geometry.fine(kLast, row[1 + kLast], last_tap);
      int32_t found = -1;
      if (exists && layout.in_range(value)) {
        const CoordKey key = line_key | layout.axis_key(kLast, value);
        if (voxels.block_of(layout, key) != block) {
          block = voxels.block_of(layout, key);
          const uint32_t home = voxels.blocks.home(block);
          const int64_t slot = voxels.blocks.find(block, home, __ldg(voxels.blocks.keys + home));
          rows = slot < 0 ? nullptr : voxels.rows + slot * 8;
        }
        if (rows) found = __ldg(rows + voxels.cell(layout, key));
      }
      *to = found;
    }
  }
}

template <int kSize>
void find_windows(const DeviceVoxelBlocks& voxels, const ConvGeometry& geometry, const int32_t* out, int64_t num_out,
                  int32_t* neighbors, ErrorRow* bad_row, cudaStream_t stream) {
  find_windows_kernel<kSize><<<grid_size(num_out, kWindowThreads), kWindowThreads, 0, stream>>>(
      voxels, TapWindow(geometry), out, num_out, neighbors, bad_row);
}

template <int kDims>
void find_lines(const DeviceVoxelBlocks& voxels, const ConvGeometry& geometry, const int32_t* out, int64_t num_out,
                int32_t* neighbors, ErrorRow* bad_row, cudaStream_t stream) {
  const dim3 grid(grid_size(num_out), geometry.volume() / geometry.kernel[kDims - 1]);
  find_lines_kernel<kDims><<<grid, kThreads, 0, stream>>>(voxels, geometry, out, num_out, neighbors, bad_row);
}

// neighbors (K, num_out): the row under each tap of each row of `out`, or -1; *bad_row: the first one that is out of range.
inline void find_neighbors(const DeviceVoxelBlocks& voxels, const ConvGeometry& geometry, const int32_t* out, int64_t num_out,
                           int32_t* neighbors, ErrorRow* bad_row, cudaStream_t stream) {
  constexpr decltype(&find_lines<1>) find_by_dims[] = {find_lines<1>, find_lines<2>, find_lines<3>, find_lines<4>};
  const auto find = TapWindow::covers(geometry, 3)   ? find_windows<3>
                    : TapWindow::covers(geometry, 2) ? find_windows<2>
                                                     : find_by_dims[geometry.layout.dims - 1];
  find(voxels, geometry, out, num_out, neighbors, bad_row, stream);
}

}  // namespace
}  // namespace pcperc
