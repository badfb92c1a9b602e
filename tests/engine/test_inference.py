# SPDX-License-Identifier: Apache-2.0
"""tools/infer.py: what it refuses and what it writes; and samples exported for it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pcperc.datasets import CLASSES, argoverse2, kitti_files, waymo
from pcperc.engine.config import ConfigError
from pcperc.engine.exporting import ExportOptions, export_samples
from pcperc.engine.file_samples import classes_of
from pcperc.engine.inference import InferOptions, infer
from pcperc.engine.prediction_files import describe
from pcperc.engine.raw_files import read_cameras, read_points
from pcperc.geometry import Detections
from pcperc.registry import DATASETS
from tests.engine.helpers import ENVIRONMENT, ROOT, run_tool
from tests.nuscenes_root import write_tiny_root


def test_two_files_of_one_name_would_share_a_result(tmp_path):
    files = [tmp_path / "a" / "x.bin", tmp_path / "b" / "x.bin", tmp_path / "y.bin"]
    with pytest.raises(ConfigError, match=r"files must have different names, got x\.bin 2 times"):
        infer(InferOptions(tmp_path / "config.py", tmp_path / "a.pth", files))


def test_a_forgotten_checkpoint_is_noticed():
    done = run_tool("tools/infer.py", "configs/calo_spvcnn.py", "my_hits.npz")
    assert "at least one FILE behind the checkpoint (my_hits.npz was taken for it), or --ray" in done.stderr
    assert done.returncode == 1


class OwnDataset:
    """As docs/add_a_dataset.md writes one."""

    classes = ("car", "pedestrian")


def test_names_of_classes_are_those_of_the_data_set(monkeypatch):
    """Detections of Argoverse 2, Waymo and data sets of one's own had the names of nuScenes."""
    monkeypatch.setitem(DATASETS.module_dict, "OwnDataset", OwnDataset)
    for name, expected in (
        ("NuScenesDataset", CLASSES),
        ("Argoverse2", argoverse2.CATEGORIES),
        ("Waymo", waymo.CLASSES),
        ("KITTIFrustums", kitti_files.CLASSES),
        ("OwnDataset", OwnDataset.classes),
    ):
        assert tuple(classes_of({"type": name})) == tuple(expected)
        assert classes_of({"type": name, "classes": ("a", "b")}) == ("a", "b")


def test_description_of_detections():
    box = torch.tensor([[1.0, 2, 3, 4, 5, 6, 0.5, -1, 0.25]])
    rows = describe(Detections(box, torch.tensor([0.75]), torch.tensor([8])), CLASSES)
    assert rows == [
        {
            "class": "pedestrian",
            "score": 0.75,
            "center": [1, 2, 3],
            "size_lwh": [4, 5, 6],
            "yaw": 0.5,
            "velocity": [-1, 0.25],
        }
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder like the repository's root, with a tiny data set where the demonstration profile wants one."""
    folder = tmp_path_factory.mktemp("root")
    for name in ("configs", "tools"):
        (folder / name).symlink_to(ROOT / name)
    write_tiny_root(folder / "data/simulated/nuscenes", version="v1.0-sim")
    return folder


def test_the_commands_of_the_page_run(folder):
    """Those of tools/README.md that export samples, detect objects in them and draw these."""
    page = (ROOT / "tools/README.md").read_text()
    commands = re.search(r"```bash\n(python tools/export_samples.*?)```", page, re.S)[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{ENVIRONMENT['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", commands], cwd=folder, env={**ENVIRONMENT, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    results = sorted((folder / "predictions").iterdir())
    assert [path.name for path in results] == ["0000.npy.json", "0002.npy.json"]
    record = json.loads(results[0].read_text())
    assert record["file"] == "samples/0000.npy" and record["trained_on_simulated_data"]
    assert isinstance(record["detections"], list) and record["calibration"] == "samples/0000.json"
    pictures = {path.name for path in (folder / "pictures").iterdir()}
    assert {f"000{k}_000{2 * k}.npy_{kind}.png" for k in (0, 1) for kind in ("birds_eye", "cameras")} <= pictures


def test_an_exported_sample_is_read_as_it_was_recorded(folder, tmp_path, monkeypatch, capsys):
    from pcperc.datasets import NuScenesDataset

    monkeypatch.chdir(folder)
    written = export_samples(ExportOptions(Path("configs/bevfusion.py"), index=[1], out=tmp_path, split="sim_train"))
    assert len(written) == 8 and f"{tmp_path}/*.npy --calibration {tmp_path}/*.json" in capsys.readouterr().out
    sample = NuScenesDataset(
        root="data/simulated/nuscenes", version="v1.0-sim", split="sim_train", num_sweeps=2
    ).read_sample(1)
    np.testing.assert_array_equal(read_points(tmp_path / "0001.npy"), sample["points"])
    cameras = read_cameras(tmp_path / "0001.json")
    for key in ("images", "lidar2camera", "camera2image", "image_aug"):
        np.testing.assert_array_equal(cameras[key], sample[key])


def test_what_cannot_be_exported(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match="^--index must be 0 to 2, got 3$"):
        export_samples(ExportOptions(Path("configs/bevfusion.py"), index=[0, 3], out=tmp_path / "out"))
    with pytest.raises(ConfigError, match="toy_config.py: ToyDataset has no read_sample, so it cannot be exported"):
        export_samples(ExportOptions(ROOT / "tests/engine/toy_config.py"))
    assert not (tmp_path / "out").exists()


def test_points_alone_where_the_config_has_no_cameras(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    written = export_samples(ExportOptions(Path("configs/bevfusion/lidar_only_demo.py"), out=tmp_path))
    assert written == [tmp_path / "0000.npy"] and "--calibration" not in capsys.readouterr().out
