# SPDX-License-Identifier: Apache-2.0
"""Multiply-adds of MinkUNet from coordinates and the published numbers of channels alone; never imports pcperc."""

import numpy as np

WIDTHS = (32, 32, 64, 128, 256, 256, 128, 96, 96)


def minkunet_macs(cells: np.ndarray, *, in_channels: int, num_classes: int, width: float = 1.0) -> int:
    """Sum of pairs x Cin x Cout over all layers, the linear head included.

    Args:
        cells: (M, 3) distinct integers, the voxels of one cloud.
    """
    c = [int(width * channels) for channels in WIDTHS]
    levels = [cells]
    for _ in range(4):
        levels.append(np.unique(levels[-1] // 2, axis=0))
    pairs = [pairs_of_three(level) for level in levels]
    total = pairs[0] * (in_channels * c[0] + c[0] * c[0])  # stem
    for stage in range(4):  # down; each fine voxel has one coarse one
        total += len(levels[stage]) * c[stage] ** 2
        total += two_blocks(pairs[stage + 1], len(levels[stage + 1]), c[stage], c[stage + 1])
    for stage in range(4):  # up
        level, skip, out = 3 - stage, c[3 - stage], c[5 + stage]
        total += len(levels[level]) * c[4 + stage] * out
        total += two_blocks(pairs[level], len(levels[level]), out + skip, out)
    return total + len(cells) * c[8] * num_classes


def two_blocks(pairs: int, voxels: int, cin: int, cout: int) -> int:
    """Two residual blocks; the first one's shortcut is a layer of one tap where the channels change."""
    shortcut = voxels * cin * cout if cin != cout else 0
    return pairs * (cin * cout + 3 * cout * cout) + shortcut


def pairs_of_three(cells: np.ndarray) -> int:
    """Pairs of voxels at most one step apart along each axis, in either order, each with itself too."""
    if len(cells) == 0:
        return 0
    cells = cells.astype(np.int64) - cells.min(0) + 1
    sizes = cells.max(0) + 2
    keys = np.sort((cells[:, 0] * sizes[1] + cells[:, 1]) * sizes[2] + cells[:, 2])
    count = 0
    for x in (-1, 0, 1):
        for y in (-1, 0, 1):
            for z in (-1, 0, 1):
                count += int(np.isin(keys + (x * sizes[1] + y) * sizes[2] + z, keys, assume_unique=True).sum())
    return count
