# SPDX-License-Identifier: Apache-2.0
"""Clusters around points of large charge, as object condensation makes them of calorimeter hits."""

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import check_float_matrix, check_same_device, check_tensor, describe
from pcperc.ops.segment_reduce import make_segments

MAX_COLUMNS = 128  # csrc/condense.h


def condense(
    points: Tensor, beta: Tensor, item: Tensor, *, num_items: int, radius: float, min_beta: float = 0.1
) -> Tensor:
    """Take points in descending order of beta; each that is still free becomes the centre of all free points around it.

    So a point is a centre exactly where no centre of larger beta is near, and belongs to the centre of largest beta
    among those near it.

    Args:
        points: (N, D) floating point, D from 1 to 128, coordinates in any unit. Distances are computed in float32, or
            in float64 where points or beta are float64, from the differences of the coordinates.
        beta: (N,) floating point; of equal ones the first row comes first.
        item: (N,) int32 or int64, only points of one item make a cluster; one outside [0, num_items) is in none.
        num_items: B >= 0.
        radius: > 0; a point nearer than this to a centre belongs to it.
        min_beta: a point whose beta is not above is no centre.
    Returns:
        (N,) int32, the row of the centre of each point; -1 for a point that is near none. A point that is not finite is
        near nothing, and may be a centre of itself.
    Raises:
        TypeError, ValueError: wrong shape, dtype or device; radius not > 0.
    Source: Kieseler, "Object condensation", Eur. Phys. J. C 80 (2020), section 2.3.
    Not differentiable. Deterministic: yes, the same on CPU and CUDA; nothing waits for the device. Cost: the points of
    an item times its centres, at most; on a GPU an item is the work of one block of threads.
    """
    op = "condense"
    columns = f"(N, D) with D from 1 to {MAX_COLUMNS}"
    check_float_matrix(op, "points", points, columns=columns)
    if points.shape[1] > MAX_COLUMNS:
        raise ValueError(f"{op}: points must be {columns}, got {describe(points)}")
    for name, values in (("beta", beta), ("item", item)):
        check_tensor(op, name, values)
        if values.shape != points.shape[:1]:
            raise ValueError(f"{op}: {name} must be ({len(points)},) like points, got {describe(values)}")
    if not beta.is_floating_point():
        raise ValueError(f"{op}: beta must have a floating point dtype, got {describe(beta)}")
    check_same_device(op, points=points, beta=beta, item=item)
    if not radius > 0:
        raise ValueError(f"{op}: radius must be > 0, got {radius}")
    dtype = torch.float64 if torch.float64 in (points.dtype, beta.dtype) else torch.float32
    points, beta = points.detach().to(dtype).contiguous(), beta.detach().to(dtype)
    by_beta = beta.argsort(descending=True, stable=True)
    items = make_segments(item[by_beta], num_segments=num_items)
    order = by_beta[items.order].int()
    return torch.ops.pcperc.condense(points, beta.contiguous(), order, items.starts, radius, min_beta)


@torch.library.register_fake("pcperc::condense")
def _(points, beta, order, starts, radius, min_beta):
    return points.new_empty(points.shape[0], dtype=torch.int32)
