# SPDX-License-Identifier: Apache-2.0
"""Distances between two sets of places, all of them."""

import torch
from torch import Tensor


@torch.no_grad()
def all_distances(one: Tensor, other: Tensor) -> Tensor:
    """Return the distances of (A, D) from (B, D), (A, B), each from the differences of its own coordinates.

    Not by a matrix product, which loses small distances between places far from the origin, and all in TF32. On a
    GPU ``torch.cdist`` would then start a block of threads for each distance, so coordinate after coordinate is added.
    """
    if one.device.type == "cpu":
        return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
    squares = one.new_zeros(len(one), len(other))
    for a, b in zip(one.unbind(1), other.unbind(1), strict=True):
        apart = a[:, None] - b
        squares.addcmul_(apart, apart)
    return squares.sqrt_()
