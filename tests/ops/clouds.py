# SPDX-License-Identifier: Apache-2.0
"""Small inputs that the operator tests share."""

import torch
from torch import Tensor


def random_coords(
    count: int, *, dims: int = 3, batch_size: int = 2, low: int = -4, high: int = 4, seed: int = 0
) -> Tensor:
    """(M, 1 + dims) int32 distinct rows in shuffled order, M <= count."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randint(batch_size, (count, 1), generator=generator)
    rows = torch.cat([batch, torch.randint(low, high + 1, (count, dims), generator=generator)], 1).int()
    rows = torch.unique(rows, dim=0)
    return rows[torch.randperm(len(rows), generator=generator)]


def coords_of(*rows, dims: int = 3) -> Tensor:
    """(M, 1 + dims) int32 of the given rows."""
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, 1 + dims)


CLOUDS = {
    "empty": coords_of(),
    "one": coords_of((0, 3, -2, 1)),
    "negative": coords_of((0, -131072, -131072, -131072), (0, -1, -1, -1), (1, -7, 5, 0)),
    "limits": coords_of((1022, 131071, 131071, 131071), (0, 0, 0, 0), (1022, 131070, 131071, 131071)),
    "random": random_coords(150),
    "gap_in_batch": coords_of((0, 1, 1, 1), (4, 1, 1, 1), (4, 1, 1, 2), (2, 0, 0, 0)),
}

# The highest batch index, and the lowest and highest coordinate, of rows with D axes.
KEY_LIMITS = {dims: (1022, -131072, 131071) if dims < 4 else (254, -8192, 8191) for dims in (1, 2, 3, 4)}


def limit_coords(dims: int) -> Tensor:
    """(6, 1 + dims) int32 rows at the corners of the range of keys, one cell away from them and at the origin."""
    batch, low, high = KEY_LIMITS[dims]
    rows = [(b, *[v] * dims) for b, v in ((batch, high), (0, low), (0, 0), (batch, low), (0, high))]
    return coords_of(*rows, (batch, *[high] * (dims - 1), high - 1), dims=dims)
