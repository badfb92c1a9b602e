# SPDX-License-Identifier: Apache-2.0
"""Batches of small clouds of unequal size that the tests of point operators share."""

import torch

from pcperc import ops

BATCH_SIZE = 3


def batch_of(*sizes, seed=0, scale=1.0):
    """(N, 3) points and the cloud (N,) of each, in shuffled order."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).int()
    points = torch.rand(len(batch), 3, generator=generator) * scale
    return points, batch[torch.randperm(len(batch), generator=generator)]


def items_of(batch, batch_size=BATCH_SIZE):
    return ops.make_segments(batch, num_segments=batch_size)


def lattice_batch():
    """Points with many equal distances, some of them repeated, exact in every type."""
    points = torch.tensor([[x, y, 0] for x in range(4) for y in range(3)], dtype=torch.float32) / 4
    return torch.cat([points, points[:3]]), torch.tensor([0, 1, 2] * 5).int()


def with_gaps():
    """An empty cloud, points of no cloud, and points that are not finite."""
    points, batch = batch_of(12, 0, 5, seed=3)
    points[2, 1], points[7, 0], points[9, 2] = torch.nan, torch.inf, -torch.inf
    batch[0], batch[4] = -1, 3
    return points, batch
