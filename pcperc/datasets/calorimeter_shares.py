# SPDX-License-Identifier: Apache-2.0
"""Do the parts of a calorimeter hit's energy add up, and is the hit the particle's that gave the most of it?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcperc.geometry.calorimeter import NO_INSTANCE

TOLERANCE = 1e-5  # of sums and of equal parts: files have float32, and writers may have added up in float32


def check_shares(
    path: str | Path, fractions: np.ndarray, contributors: np.ndarray | None, instance: np.ndarray | None
) -> None:
    """Raise where the parts of a hit are more than the whole, or where its particle has not the largest of them.

    A hit of no particle (-1) is background's, or that of a particle to which no hit of the event belongs: one that
    dominates too few hits is no object. Equal parts leave open whose the hit is.

    Args:
        path: of the event, for messages.
        fractions: (N, K) in [0, 1]; K = 0 says nothing.
        contributors: (N, K) whole numbers, -1 for background and with 0 for nobody; None where the file has none.
        instance: (N,) int64; None where the file has none.
    Raises:
        ValueError: file, first wrong hit, expected and got, and the number of wrong hits are named.
    """
    rounding = np.finfo(fractions.dtype).eps if fractions.dtype.kind == "f" else 0.0
    tolerance = max(TOLERANCE, fractions.shape[1] * rounding)  # of half precision its own
    total = fractions.sum(axis=1, dtype=np.float64)
    wrong = np.flatnonzero(total > 1 + tolerance)
    if len(wrong):
        got = f"got {total[wrong[0]]:g} at hit {wrong[0]} ({len(wrong)} such hits)"
        raise ValueError(f"event {path}: fractions of a hit must add up to at most 1, {got}")
    if contributors is None or instance is None or fractions.size == 0:
        return
    largest = fractions.argmax(axis=1)
    rows = np.arange(len(fractions))
    # Almost every hit is that of its first largest part; what is left is looked at with care.
    odd = np.flatnonzero((contributors[rows, largest] != instance) | (fractions[rows, largest] <= 0))
    who, parts, mine = contributors[odd], fractions[odd].astype(np.float64), instance[odd, None]
    fits = (who == mine) | ((mine == NO_INSTANCE) & ~np.isin(who, instance))
    most, own = parts.max(axis=1, initial=0.0), np.where(fits, parts, -1.0).max(axis=1, initial=-1.0)
    wrong = np.flatnonzero(np.where(most > 0, own < most - tolerance, mine[:, 0] != NO_INSTANCE))
    if len(wrong):
        first = wrong[0]
        lead = f"the contributor with the largest of fractions ({most[first]:g})"
        expected = (
            f"{int(who[first, parts[first].argmax()])}, {lead}" if most[first] > 0 else "-1 where fractions are 0"
        )
        got = f"got {mine[first, 0]} at hit {odd[first]} ({len(wrong)} such hits)"
        raise ValueError(f"event {path}: instance must be {expected}, {got}")
