# SPDX-License-Identifier: Apache-2.0
"""SPVCNN on real SemanticKITTI scans: one learnt by heart, and a few from which it says something of another."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pcperc.datasets.semantickitti_labels import CLASSES, LABEL_MAPS
from pcperc.geometry import IGNORED
from tests.realdata_scans import ELSEWHERE, SEEN, write_few_scans, write_one_scan

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.gpu, pytest.mark.large, pytest.mark.realdata]


def run(*words):
    subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, check=True)


def train_and_predict(config: str, root: Path, work_dir: Path, split: str) -> float:
    """Minutes that training took; predictions lie in the work dir."""
    paths = [f"{part}_dataloader.dataset.root={root}" for part in ("train", "test")] + [f"data_root={root}"]
    started = time.monotonic()
    run("tools/train.py", config, "--amp", "--work-dir", work_dir, "--cfg-options", *paths)
    minutes = (time.monotonic() - started) / 60
    options = ("--eval", "semantickitti", "--split", split, "--data-root", root)
    run("tools/test.py", config, "--work-dir", work_dir, *options)
    return minutes


def classes_of(path: Path) -> np.ndarray:
    return LABEL_MAPS["official"].to_train(np.fromfile(path, "<u4") & 0xFFFF, where=path)


def ious_of(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """IoU of each class that is there, counted class by class."""
    scored = truth != IGNORED
    found = {}
    for number, name in enumerate(CLASSES):
        is_class, is_said = truth[scored] == number, predicted[scored] == number
        if is_class.any():
            found[name] = (is_class & is_said).sum() / (is_class | is_said).sum()
    return found


def predicted_classes(work_dir: Path, sequence: str, frame: int) -> np.ndarray:
    found = list(work_dir.rglob(f"sequences/{sequence}/predictions/{frame:06d}.label"))
    assert len(found) == 1
    return classes_of(found[0])


def test_spvcnn_learns_a_real_scan_by_heart(realdata, tmp_path):
    root, work_dir = tmp_path / "scan", tmp_path / "work"
    write_one_scan(realdata, root)
    minutes = train_and_predict("configs/spvnas/overfit_scan.py", root, work_dir, SEEN)
    ious = ious_of(classes_of(root / "sequences/08/labels/000000.label"), predicted_classes(work_dir, "08", 0))
    mean = np.mean(list(ious.values()))
    print({name: round(float(iou), 3) for name, iou in ious.items()}, f"mIoU {mean:.3f}, {minutes:.1f} minutes")
    assert mean >= 0.95
    assert minutes <= 5


def test_a_few_real_scans_say_something_of_another(realdata, tmp_path):
    root, work_dir = tmp_path / "scans", tmp_path / "work"
    write_few_scans(realdata, root)
    minutes = train_and_predict("configs/spvnas/few_real_scans.py", root, work_dir, ELSEWHERE)
    truth = classes_of(root / "sequences/01/labels/000750.label")
    found = np.mean(list(ious_of(truth, predicted_classes(work_dir, "01", 750)).values()))
    constant = max(np.mean(list(ious_of(truth, np.full_like(truth, c)).values())) for c in range(len(CLASSES)))
    print(f"mIoU {found:.3f}, of the best constant guess {constant:.3f}, {minutes:.1f} minutes")
    assert found >= 3 * constant
