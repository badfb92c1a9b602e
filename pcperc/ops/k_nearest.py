# SPDX-License-Identifier: Apache-2.0
"""The nearest points of queries in a space of a few coordinates, such as one that a network learns."""

import torch
from torch import Tensor

from pcperc.ops._checks import check_float_matrix, describe, positive_int
from pcperc.ops._clouds import check_clouds
from pcperc.ops.segment_reduce import Segments

MAX_COLUMNS = 16  # csrc/k_nearest.h


def k_nearest(
    points: Tensor, items: Segments, queries: Tensor, query_items: Segments, *, num_neighbors: int
) -> tuple[Tensor, Tensor]:
    """Find the nearest points of the same cloud by looking at all of them, in one launch on a GPU.

    Args:
        points: (N, S) floating point, S from 1 to 16, coordinates in any unit. Distances are computed in float32, or in
            float64 where points or queries are float64, from the differences of the coordinates.
        items: the B clouds of points, from ``make_segments(batch_index, num_segments=B)``.
        queries: (P, S) floating point. On a GPU fastest where queries of the same cloud stand beside each other.
        query_items: the B clouds of queries, likewise.
        num_neighbors: K >= 1. A GPU looks at all points once for each 128 neighbours.
    Returns:
        (P, K) int32 rows of points, nearest first, of equally near ones the first row; and (P, K) squared distances in
        float32 (float64 for float64). A cloud of fewer than K points gives -1 with distance 0 behind them. A query or
        point that is not finite has and is no neighbour.
    Raises:
        TypeError, ValueError: wrong shape, dtype or device; another number of clouds; num_neighbors not > 0.
    Not differentiable. Deterministic: yes, the same rows and distances on CPU and CUDA; nothing waits for the device.
    """
    op = "k_nearest"
    columns = f"(N, S) with S from 1 to {MAX_COLUMNS}"
    check_float_matrix(op, "points", points, columns=columns)
    if points.shape[1] > MAX_COLUMNS:
        raise ValueError(f"{op}: points must be {columns}, got {describe(points)}")
    points, queries = check_clouds(op, points, items, queries, query_items, columns=points.shape[1])
    count = positive_int(op, "num_neighbors", num_neighbors)
    return torch.ops.pcperc.k_nearest(points, items.order, items.starts, queries, query_items.index, count)


@torch.library.register_fake("pcperc::k_nearest")
def _(points, order, starts, queries, query_item, num_neighbors):
    shape = queries.shape[0], num_neighbors
    return queries.new_empty(shape, dtype=torch.int32), queries.new_empty(shape)
