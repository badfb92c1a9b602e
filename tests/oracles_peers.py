# SPDX-License-Identifier: Apache-2.0
"""Convolutions as other libraries number their taps, in float64 loops. Imports nothing of pcperc, nor of them."""

import itertools

import numpy as np


def tap_offsets(library: str, kernel_size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Where each tap of the library's flat weight looks, relative to the (strided) output, in the order of the weight.

    spconv: the last axis fastest, odd sizes, centred. torchsparse: get_kernel_offsets. Minkowski: kernel_region, the
    first axis fastest, odd sizes centred, even ones from 0.
    """
    if library == "spconv":
        axes = [range(-(size // 2), size // 2 + 1) for size in kernel_size]
        return list(itertools.product(*axes))
    if library == "torchsparse":
        axes = [range(-size // 2 + 1, size // 2 + 1) for size in kernel_size]
        if np.prod(kernel_size) % 2 == 0:
            return list(itertools.product(*axes))
        return [offset[::-1] for offset in itertools.product(*reversed(axes))]
    axes = [range(-(size // 2), size // 2 + 1) if size % 2 else range(size) for size in kernel_size]
    return [offset[::-1] for offset in itertools.product(*reversed(axes))]


def convolve(
    coords: np.ndarray,  # (N, 1 + D) [batch, x, y, z]
    feats: np.ndarray,  # (N, Cin)
    out_coords: np.ndarray,  # (M, 1 + D)
    weight: np.ndarray,  # (K, Cin, Cout) in the order of offsets
    offsets: list[tuple[int, ...]],
    stride: int = 1,
) -> np.ndarray:
    """(M, Cout): sum over the taps of the features at ``stride * output + offset``."""
    rows = {tuple(row): feats[n] for n, row in enumerate(coords.tolist())}
    out = np.zeros((len(out_coords), weight.shape[2]))
    for m, (batch, *position) in enumerate(out_coords.tolist()):
        for tap, offset in zip(weight, offsets, strict=True):
            source = (batch, *(stride * p + o for p, o in zip(position, offset, strict=True)))
            if source in rows:
                out[m] += rows[source] @ tap
    return out
