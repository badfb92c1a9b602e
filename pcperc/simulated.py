# SPDX-License-Identifier: Apache-2.0
"""The mark by which simulated data is known, whatever its splits and scenes are called."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SIMULATION_STAMP = "simulation.json"  # written last into a simulated root: says with which settings it was made


def is_simulated_root(root: str | Path | None) -> bool:
    """Return whether pcperc.simulation left its mark in the folder of a data set; None is no folder."""
    return root is not None and (Path(root) / SIMULATION_STAMP).is_file()


def simulated_note(metainfo: Mapping[str, Any] | None) -> str:
    """Return what the title of a table says of a data set of this metainfo: " (simulated data)", or nothing."""
    return " (simulated data)" if is_simulated_root((metainfo or {}).get("root")) else ""
