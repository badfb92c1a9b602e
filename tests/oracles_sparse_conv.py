# SPDX-License-Identifier: Apache-2.0
"""The sparse convolution in float64, differentiable, one product a tap: fast enough for thousands of rows."""

import torch
from torch import Tensor


def convolve(
    feats: Tensor, weight: Tensor, neighbors: Tensor, bias: Tensor | None = None, *, groups: int = 1
) -> Tensor:
    """(M, Cout) float64 on the CPU, differentiable; entries of neighbors below 0 are absent."""
    feats, weight, neighbors = feats.cpu().double(), weight.cpu().double(), neighbors.cpu()
    out = feats.new_zeros(neighbors.shape[1], weight.shape[2])
    for tap, rows in zip(weight, neighbors, strict=True):
        present = rows >= 0
        columns = zip(feats[rows[present]].chunk(groups, 1), tap.chunk(groups, 1), strict=True)
        out = out.index_add(0, present.nonzero()[:, 0], torch.cat([left @ right for left, right in columns], 1))
    return out if bias is None else out + bias.cpu().double()


def random_tables(taps: int, num_in: int, num_out: int, *, density: float = 0.3) -> tuple[Tensor, Tensor]:
    """neighbors (taps, num_out) and its reverse (taps, num_in) int32 of a map in which no tap meets a row twice."""
    neighbors = torch.full((taps, num_out), -1, dtype=torch.int32)
    reverse = torch.full((taps, num_in), -1, dtype=torch.int32)
    count = round(density * min(num_in, num_out))
    for tap in range(taps):
        ins, outs = torch.randperm(num_in)[:count], torch.randperm(num_out)[:count]
        neighbors[tap, outs], reverse[tap, ins] = ins.int(), outs.int()
    return neighbors, reverse


def truncate_to_tf32(values: Tensor) -> Tensor:
    """float32 values that TF32 holds exactly: the 13 lowest bits are cut off."""
    return (values.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)
