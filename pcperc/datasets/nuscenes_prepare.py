# SPDX-License-Identifier: Apache-2.0
"""All that a nuScenes version needs before training: the index of each split and the GT-paste database."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pcperc.datasets.gt_database import INDEX_NAME, build_gt_database
from pcperc.datasets.nuscenes import NuScenesDataset
from pcperc.datasets.nuscenes_index import NUM_SWEEPS, gt_database_path, prepare_nuscenes


def prepare_nuscenes_for_training(
    root: str | Path,
    version: str,
    *,
    splits: Sequence[str] | None = None,
    num_sweeps: int = NUM_SWEEPS,
    gt_database: bool = True,
    overwrite: bool = False,
    show_progress: bool = True,
) -> dict[str, Path]:
    """Write the index of each split, and the GT-paste database of each split whose name ends in "train".

    Whatever is complete and belongs to the same tables is kept; what was stopped half-way goes on.

    Args:
        root, version, splits, num_sweeps, overwrite, show_progress: see `prepare_nuscenes`.
        gt_database: build the databases too. For v1.0-trainval this reads every sweep of the training split once.
    Returns:
        Path of the index by split.
    Raises:
        FileNotFoundError, ValueError: as `prepare_nuscenes`, or a point file that cannot be read.
    """
    paths = prepare_nuscenes(
        root, version, splits=splits, num_sweeps=num_sweeps, overwrite=overwrite, show_progress=show_progress
    )
    for split, path in paths.items():
        if not gt_database or not split.endswith("train"):
            continue
        folder = gt_database_path(root, version, split)
        for begun in (folder, folder.with_name(folder.name + ".partial")):
            if (begun / INDEX_NAME).is_file() and (begun / INDEX_NAME).stat().st_mtime_ns < path.stat().st_mtime_ns:
                shutil.rmtree(begun)  # cut out of the samples of an older index
        dataset = NuScenesDataset(root=root, version=version, split=split, num_sweeps=num_sweeps, modalities=("lidar",))
        build_gt_database(dataset, folder, overwrite=overwrite, show_progress=show_progress)
    return paths
