# SPDX-License-Identifier: Apache-2.0
"""The full-size camera + LiDAR model learns the real keyframe by heart in ten minutes on a GPU."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pcperc.datasets import prepare_nuscenes
from tests.realdata_keyframe import SPLIT, VERSION, write_keyframe_root

ROOT = Path(__file__).parent.parent
CONFIG = "configs/bevfusion/overfit_keyframe.py"


def run(*words):
    subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, check=True)


@pytest.mark.gpu
@pytest.mark.large
@pytest.mark.realdata
def test_full_size_model_overfits_the_keyframe(realdata, tmp_path):
    root, work_dir = tmp_path / "keyframe", tmp_path / "work"
    write_keyframe_root(realdata, root)
    prepare_nuscenes(root, VERSION, splits=[SPLIT])
    paths = [f"{part}_dataloader.dataset.root={root}" for part in ("train", "test")] + [f"data_root={root}"]
    started = time.monotonic()
    run("tools/train.py", CONFIG, "--amp", "--work-dir", work_dir, "--cfg-options", *paths)
    minutes = (time.monotonic() - started) / 60
    run("tools/test.py", CONFIG, "--work-dir", work_dir, "--eval", "nuscenes", "--data-root", root)
    by_distance = json.loads((work_dir / "metrics_summary.json").read_text())["label_aps"]
    found = {name: sum(aps.values()) / len(aps) for name, aps in by_distance.items()}
    print({name: round(ap, 3) for name, ap in found.items()}, f"{minutes:.1f} minutes")
    assert found["pedestrian"] >= 0.9
    assert found["barrier"] >= 0.9
    assert minutes <= 10
