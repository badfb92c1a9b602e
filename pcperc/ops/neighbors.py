# SPDX-License-Identifier: Apache-2.0
"""Neighbours of queries among the points of the same cloud: in a ball, or the three nearest."""

import math

import torch
from torch import Tensor

from pcperc.ops._checks import positive_int
from pcperc.ops._clouds import check_clouds
from pcperc.ops.segment_reduce import Segments
from pcperc.ops.weighted_gather import GatherPlan

SMALLEST_SQUARE = 1e-10  # squared distances below it count as it: a query on a point reads that point alone, almost


def ball_query(
    points: Tensor, items: Segments, queries: Tensor, query_items: Segments, *, radius: float, num_neighbors: int
) -> Tensor:
    """Find points of the same cloud that are nearer to a query than ``radius``.

    Args:
        points: (N, 3) floating point, x, y, z in any unit. Distances are computed in float32, or in float64 where
            points or queries are float64.
        items: the B clouds of points, from ``make_segments(batch_index, num_segments=B)``.
        queries: (P, 3) floating point.
        query_items: the B clouds of queries, likewise.
        radius: > 0, in the unit of points; a point at this distance is outside.
        num_neighbors: K >= 1.
    Returns:
        (P, K) int32 rows of points, ascending; where more than K points are inside, the first K of them, and where
        fewer, -1 behind them. A query or point that is not finite has and is no neighbour.
    Raises:
        TypeError, ValueError: wrong shape, dtype or device; another number of clouds; radius or num_neighbors not > 0.
    Source: Qi, Yi, Su and Guibas, "PointNet++", NeurIPS 2017, section 3.2 (which repeats the first row where -1 is).
    Not differentiable. Deterministic: yes, the same rows on CPU and CUDA; nothing waits for the device.
    """
    op = "ball_query"
    points, queries = check_clouds(op, points, items, queries, query_items)
    if not isinstance(radius, int | float | torch.SymFloat) or not 0 < radius < math.inf:
        raise ValueError(f"{op}: radius must be a finite number > 0, got {radius!r}")
    count = positive_int(op, "num_neighbors", num_neighbors)
    clouds = (points, items.order, items.starts)
    return torch.ops.pcperc.ball_query(*clouds, queries, query_items.index, radius, count)


def three_nearest(points: Tensor, items: Segments, queries: Tensor, query_items: Segments) -> tuple[Tensor, Tensor]:
    """Find the three nearest points of the same cloud.

    Args:
        points, items, queries, query_items: as in :func:`ball_query`.
    Returns:
        (P, 3) int32 rows of points, nearest first, of equally near ones the first row; and (P, 3) squared distances in
        float32 (float64 for float64). A cloud of fewer than three points gives -1 with distance 0 behind them. A query
        or point that is not finite has and is no neighbour.
    Raises:
        TypeError, ValueError: wrong shape, dtype or device; another number of clouds.
    Not differentiable. Deterministic: yes, the same rows on CPU and CUDA; nothing waits for the device.
    """
    points, queries = check_clouds("three_nearest", points, items, queries, query_items)
    return torch.ops.pcperc.three_nearest(points, items.order, items.starts, queries, query_items.index)


def make_three_nearest_plan(points: Tensor, items: Segments, queries: Tensor, query_items: Segments) -> GatherPlan:
    """Weigh the three nearest points of each query by the inverse of their squared distance, for ``weighted_gather``.

    Args:
        points, items, queries, query_items: as in :func:`ball_query`.
    Returns:
        GatherPlan of (P, 3) rows and weights that sum to 1. A cloud of fewer than three points gives fewer; a query
        without any reads 0.
    Raises:
        TypeError, ValueError: as :func:`three_nearest`.
    Source: Qi, Yi, Su and Guibas, "PointNet++", NeurIPS 2017, equation 2 with k = 3 and p = 2.
    Not differentiable in points; deterministic.
    """
    rows, squares = three_nearest(points, items, queries, query_items)
    inverse = torch.where(rows >= 0, 1 / squares.clamp(min=SMALLEST_SQUARE), 0)
    total = inverse.sum(1, keepdim=True)
    return GatherPlan(rows, inverse / torch.where(total > 0, total, 1), points.shape[0])


@torch.library.register_fake("pcperc::ball_query")
def _(points, order, starts, queries, query_item, radius, num_neighbors):
    return queries.new_empty(queries.shape[0], num_neighbors, dtype=torch.int32)


@torch.library.register_fake("pcperc::three_nearest")
def _(points, order, starts, queries, query_item):
    count = queries.shape[0]
    return queries.new_empty(count, 3, dtype=torch.int32), queries.new_empty(count, 3)
