# SPDX-License-Identifier: Apache-2.0
"""Writes real SemanticKITTI scans, of several layouts, as roots of the published one."""

import json
from pathlib import Path

import numpy as np

from pcperc.datasets.semantickitti_labels import LABEL_MAPS
from pcperc.geometry import IGNORED

SEEN, ELSEWHERE = "seen", "elsewhere"


def write_one_scan(realdata: Path, root: Path) -> None:
    """Scan 000000 of sequence 08 with its remission, as split ``seen``."""
    points, recorded = _whole_scan(realdata)
    _write(root, "08", 0, points, recorded)
    _write_splits(root, {SEEN: ["08"]})


def write_few_scans(realdata: Path, root: Path) -> None:
    """Five scans of sequence 08 that follow one another as ``seen``, scan 000750 as ``elsewhere``."""
    points, recorded = _whole_scan(realdata)
    _write(root, "00", 0, points, recorded)
    for frame in range(1, 5):
        image = np.load(realdata / f"semantickitti_rangeview/seq08_val_{frame}.npz")
        seen = image["image"][..., 4] > 0
        _write(root, "00", frame, image["image"][seen][:, :4], _from_train_ids(image["label"][seen]))
    folder = realdata / "semantickitti/subsampled_labelled"
    points = np.pad(np.load(folder / "points/000750.npy"), ((0, 0), (0, 1)))
    _write(root, "01", 750, points, _from_train_ids(np.load(folder / "labels/000750.npy").ravel()))
    _write_splits(root, {SEEN: ["00"], ELSEWHERE: ["01"]})


def _whole_scan(realdata: Path) -> tuple[np.ndarray, np.ndarray]:
    folder = realdata / "semantickitti/seq08"
    points = np.fromfile(folder / "velodyne/000000.bin", "<f4").reshape(-1, 4)
    return points, np.fromfile(folder / "labels/000000.label", "<u4")


def _from_train_ids(labels: np.ndarray) -> np.ndarray:
    """Recorded numbers of labels 0 (none) and 1 to 19."""
    labels = labels.astype(np.int64)
    return LABEL_MAPS["official"].to_recorded(np.where(labels == 0, IGNORED, labels - 1))


def _write(root: Path, sequence: str, frame: int, points: np.ndarray, recorded: np.ndarray) -> None:
    assert len(points) == len(recorded) > 0
    folder = root / "sequences" / sequence
    for name, kind, values in (("velodyne", "bin", points.astype("<f4")), ("labels", "label", recorded.astype("<u4"))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{frame:06d}.{kind}").write_bytes(np.ascontiguousarray(values).tobytes())


def _write_splits(root: Path, splits: dict[str, list[str]]) -> None:
    (root / "splits.json").write_text(json.dumps(splits))
