# SPDX-License-Identifier: Apache-2.0
"""The mark of simulated data on roots that tests write themselves."""

from pathlib import Path

from pcperc.simulated import SIMULATION_STAMP


def mark_simulated(root: Path) -> Path:
    """Mark the folder of a data set as the simulators do; return it."""
    (root / SIMULATION_STAMP).write_text("{}")
    return root
