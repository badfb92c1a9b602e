# SPDX-License-Identifier: Apache-2.0
"""Oracles of the operators on coordinates, by sets and dicts, beside those in oracles.py. Never imports pcperc."""

import numpy as np

from tests.oracles import taps


def upsample_coords(coords, *, kernel_size, stride, padding, dilation, output_shape=None):
    """Every stride * i + dilation * tap - padding, sorted; those outside [0, output_shape) dropped."""
    found = set()
    for batch, *coarse in coords.tolist():
        for tap in taps(kernel_size):
            axes = zip(coarse, tap, stride, padding, dilation, strict=True)
            found.add((batch, *(s * o + d * t - p for o, t, s, p, d in axes)))
    if output_shape is not None:
        found = {row for row in found if all(0 <= v < n for v, n in zip(row[1:], output_shape, strict=True))}
    return np.array(sorted(found), np.int64).reshape(-1, coords.shape[1])  # beyond int32 for large strides


def reverse_kernel_map(neighbors, num_inputs):
    """(K, N): the m with neighbors[k, m] = n, or -1."""
    table = np.full((len(neighbors), num_inputs), -1, np.int32)
    for k, m in zip(*np.nonzero(neighbors >= 0), strict=True):
        table[k, neighbors[k, m]] = m
    return table


def order_rows(neighbors):
    """Columns by the place in the Gray code of their taps, rarest tap first, descending, stable; and their numbers."""
    taken = neighbors >= 0
    rarest_first = np.argsort(taken.sum(1), kind="stable")
    # The place of a Gray code: bit i is the parity of the code's bits down to i.
    place = np.bitwise_xor.accumulate(taken[rarest_first], axis=0)
    columns = range(neighbors.shape[1])
    order = np.array(sorted(columns, key=lambda m: tuple(~place[:, m])), np.int32)
    return neighbors[:, order.astype(np.int64)], order
