# SPDX-License-Identifier: Apache-2.0
"""All that a nuScenes version needs before training: the index of each split and the GT-paste database."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from pcperc.datasets.gt_database import INDEX_NAME, build_gt_database
from pcperc.datasets.nuscenes import NuScenesDataset
from pcperc.datasets.nuscenes_index import NUM_SWEEPS, gt_database_path, one_preparation, prepare_nuscenes


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

    Whatever is complete and belongs to the same tables is kept; what was stopped half-way goes on. Where another
    process prepares the version, this one waits for it.

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
        complete = (folder / INDEX_NAME).is_file() and not overwrite and not _is_older(folder, path)
        with nullcontext() if complete else one_preparation(root, version):  # complete ones may be on a read-only disk
            for begun in (folder, folder.with_name(folder.name + ".partial")):
                if _is_older(begun, path):
                    shutil.rmtree(begun)  # cut out of the samples of an older index
            options = dict(root=root, version=version, split=split, num_sweeps=num_sweeps, modalities=("lidar",))
            build_gt_database(NuScenesDataset(**options), folder, overwrite=overwrite, show_progress=show_progress)
    return paths


def _is_older(database: Path, index: Path) -> bool:
    """Whether a database is there that was begun before the index was written."""
    file = database / INDEX_NAME
    return file.is_file() and file.stat().st_mtime_ns < index.stat().st_mtime_ns
