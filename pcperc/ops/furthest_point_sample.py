# SPDX-License-Identifier: Apache-2.0
"""A few points that are spread over a cloud."""

import torch
from torch import Tensor

from pcperc.ops._checks import positive_int
from pcperc.ops._clouds import check_cloud
from pcperc.ops.segment_reduce import Segments


def furthest_point_sample(points: Tensor, items: Segments, *, num_samples: int) -> Tensor:
    """Sample each cloud: its first point, then always the point whose nearest sample is furthest away.

    Args:
        points: (N, 3) floating point, x, y, z in any unit. Distances are computed in float32 (float64 for float64).
        items: the B clouds, from ``make_segments(batch_index, num_segments=B)``; the rows of a cloud may lie anywhere.
        num_samples: S >= 1.
    Returns:
        (B, S) int32 rows of points, in the order in which they are found; of equally far points the first. They are
        distinct also where points coincide: a cloud of fewer than S points gives all of them, then -1. A point that is
        not finite is never sampled.
    Raises:
        TypeError, ValueError: wrong shape, dtype or device; num_samples no whole number > 0.
    Source: Eldar, Lindenbaum, Porat and Zeevi, "The Farthest Point Strategy for Progressive Image Sampling", IEEE
        Transactions on Image Processing 6(9), 1997; first point as in Qi et al., PointNet++, NeurIPS 2017.
    Not differentiable. Deterministic: yes, the same rows on CPU and CUDA; nothing waits for the device.
    """
    op = "furthest_point_sample"
    points = check_cloud(op, "points", points, items)
    return torch.ops.pcperc.furthest_point_sample(
        points, items.order, items.starts, positive_int(op, "num_samples", num_samples)
    )


@torch.library.register_fake("pcperc::furthest_point_sample")
def _(points, order, starts, num_samples):
    return points.new_empty(starts.shape[0] - 1, num_samples, dtype=torch.int32)
