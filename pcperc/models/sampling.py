# SPDX-License-Identifier: Apache-2.0
"""Which points of a cloud make up clouds of a fixed size: by chance to train on, all of them to test."""

import torch
from torch import Tensor

_SEED = 0  # of the orders in testing: the same cloud is always cut in the same way


def draw_view(rows: Tensor, size: int, *, replace: bool = False) -> Tensor:
    """Draw ``size`` of (M,) rows, M >= 1, by torch's random numbers of their device.

    Without ``replace`` no row comes twice before each has come once.
    """
    if replace:
        return rows[torch.randint(len(rows), (size,), device=rows.device)]
    rounds = -(-size // len(rows))
    orders = [torch.randperm(len(rows), device=rows.device) for _ in range(rounds)]
    return rows[torch.cat(orders)[:size]]


def whole_views(count: int, size: int, *, votes: int = 1, device: torch.device | str = "cpu") -> Tensor:
    """Cut ``count`` points into clouds of ``size``, anew for each vote.

    Returns:
        (V, size) int64 rows, V = votes * ceil(count / size), in random orders that do not depend on anything but the
        arguments. Each vote has every point, and fills its last cloud up with points that come once more.
    """
    generator = torch.Generator().manual_seed(_SEED)
    rows = torch.arange(count)
    return torch.cat([torch.zeros(0, size).long(), *(_cut(rows, size, generator) for _ in range(votes))]).to(device)


def block_views(xy: Tensor, size: int, *, block: float, grids: int = 1, votes: int = 1) -> tuple[Tensor, Tensor]:
    """Cut points into clouds of ``size``, block by block of square grids.

    Args:
        xy: (N, 2) metres.
        size: points of a cloud.
        block: edge length of a block in metres.
        grids: laid by each vote, the k-th a part ``k * block / grids`` below the lowest corner of all points.
        votes: repetitions in other random orders.
    Returns:
        (V, size) int64 rows on the device of xy, and (V, 2) the lowest x and y of all points of each cloud's block.
        Each grid of each vote has every point; a block fills its last cloud up with its own points that come once more.
    """
    generator = torch.Generator().manual_seed(_SEED)
    views, lowest = [torch.zeros(0, size).long()], [torch.zeros(0, 2, dtype=xy.dtype)]
    recorded = xy.detach().cpu()
    place = recorded.double()
    place = place - place.amin(0) if len(place) else place
    shifts = [block * k / grids for _ in range(votes) for k in range(grids)]
    for shift in shifts if len(place) else ():
        cells = ((place + shift) / block).floor().long()
        number = cells[:, 0] * (int(cells[:, 1].max()) + 1) + cells[:, 1]
        order = number.argsort(stable=True)
        counts = number.unique(return_counts=True)[1].tolist()
        for rows in order.split(counts):
            views.append(_cut(rows, size, generator))
            lowest.append(recorded[rows].amin(0).expand(len(views[-1]), 2))
    return torch.cat(views).to(xy.device), torch.cat(lowest).to(xy.device)


def _cut(rows: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Cut rows in random order into clouds, (ceil(M / size), size)."""
    if len(rows) == 0:
        return torch.zeros(0, size).long()
    clouds = -(-len(rows) // size)
    rounds = -(-clouds * size // len(rows))
    order = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(rounds)])
    return rows[order[: clouds * size]].reshape(clouds, size)
