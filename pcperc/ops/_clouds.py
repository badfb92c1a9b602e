# SPDX-License-Identifier: Apache-2.0
"""Clouds of points as the operators take them: positions, and the rows of each batch item."""

import torch
from torch import Tensor

from pcperc.ops._checks import check_float_matrix, check_same_device, describe
from pcperc.ops.segment_reduce import Segments


def check_cloud(op: str, name: str, points: Tensor, items: Segments, columns: int = 3) -> Tensor:
    """Return (N, columns) points, contiguous, detached, in float32 or float64, once ``items`` are their segments."""
    check_float_matrix(op, name, points, columns=f"(N, {columns})", least=columns, exact=True)
    if not isinstance(items, Segments):
        raise TypeError(f"{op}: items of {name} must be Segments from make_segments, got {describe(items)}")
    if items.index.shape[0] != points.shape[0]:
        count = points.shape[0]
        raise ValueError(f"{op}: items of {name} must have its {count} rows, got {items.index.shape[0]}")
    check_same_device(op, **{name: points, f"items of {name}": items.index})
    points = points.detach()
    return (points if points.dtype == torch.float64 else points.float()).contiguous()


def check_clouds(
    op: str, points: Tensor, items: Segments, queries: Tensor, query_items: Segments, columns: int = 3
) -> list[Tensor]:
    """Return points and queries as :func:`check_cloud`, in one dtype, once both have the same number of clouds."""
    clouds = [
        check_cloud(op, "points", points, items, columns),
        check_cloud(op, "queries", queries, query_items, columns),
    ]
    check_same_device(op, points=points, queries=queries)
    if items.starts.shape != query_items.starts.shape:
        sizes = items.starts.shape[0] - 1, query_items.starts.shape[0] - 1
        raise ValueError(f"{op}: queries must have as many clouds as points, {sizes[0]}, got {sizes[1]}")
    dtype = torch.promote_types(clouds[0].dtype, clouds[1].dtype)
    return [cloud.to(dtype) for cloud in clouds]
