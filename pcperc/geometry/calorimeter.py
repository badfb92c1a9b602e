# SPDX-License-Identifier: Apache-2.0
"""Calorimeter hits: columns of a hit table and classes of its hits. Lengths in cm, energies in GeV, times in ns."""

from __future__ import annotations

from collections.abc import Container

import numpy as np

# The recHit layout of CMS. ``id`` is 0 in published files, ``R`` the distance from the origin, ``time`` -1 for none.
HIT_COLUMNS = ("E", "eta", "id", "theta", "R", "x", "y", "z", "time")
HIT_CLASSES = ("noise", "electromagnetic", "hadronic")
NO_TIME = -1.0
NOISE_CLASS, NO_INSTANCE = 0, -1


def pseudorapidity(xyz: np.ndarray) -> np.ndarray:
    """Return ``asinh(z / rho)``, ``rho = hypot(x, y)``, of places (N, 3): (N,) float64; infinite on the beam's axis."""
    x, y, z = np.asarray(xyz, np.float64).reshape(-1, 3).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.arcsinh(z / np.hypot(x, y))


def class_advice(truth: Container[str]) -> str:
    """Return what a message about truth without ``class`` ends with: how clusters of recHits get one."""
    return "" if "instance" not in truth else "; class_of_clusters of CalorimeterHits gives clusters one"


def hit_table(energy: np.ndarray, xyz: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Lay hits out in `HIT_COLUMNS`.

    Args:
        energy: (N,) GeV. xyz: (N, 3) cm, off the beam axis. time: (N,) ns, `NO_TIME` for none.
    Returns:
        (N, 9) float32; ``eta = asinh(z / rho)``, ``theta = atan2(rho, z)`` with ``rho = hypot(x, y)``.
    """
    x, y, z = np.asarray(xyz, np.float64).reshape(-1, 3).T
    rho = np.hypot(x, y)
    columns = (energy, pseudorapidity(xyz), np.zeros_like(x), np.arctan2(rho, z), np.hypot(rho, z), x, y, z, time)
    return np.stack(columns, axis=1).astype(np.float32)
