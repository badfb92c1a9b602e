# SPDX-License-Identifier: Apache-2.0
"""The tools with PVCNN on frustums, from simulated frames to scores, files and pictures, at toy size."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from pcperc.datasets import KITTIFrustums
from pcperc.engine.config import ConfigError
from pcperc.engine.inference import InferOptions, infer
from pcperc.engine.testing import TestOptions, test
from pcperc.engine.visualizing import VisualizeOptions, visualize
from tests.engine.helpers import read_losses


def test_frustums_are_trained_and_scored(frustums, tmp_path):
    root, config, checkpoint = frustums
    losses = read_losses(checkpoint.parent)
    assert {"loss_mask", "loss_corners", "loss_heading"} <= set(next(iter(losses.values())))
    found = test(TestOptions(config, checkpoint, evaluation="kitti", work_dir=tmp_path, device="cpu"))
    assert json.loads((tmp_path / "scores.json").read_text())["scores"] == pytest.approx(found, nan_ok=True)
    frames = {sample.split("/")[0] for sample in KITTIFrustums(root=root, split="sim_val").tokens}
    written = {path.stem for path in (tmp_path / "kitti_results").glob("*.txt") if path.read_text()}
    assert written and written <= frames


def test_frustums_of_a_detectors_boxes_are_scored(frustums, parts, tmp_path):
    """Of a split without labels, too, files alone are written; the checkpoint was trained on labelled boxes."""
    root, config, checkpoint = frustums
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("000001.png 3 0.7 190 40 250 110\n")
    options = dict(detections=boxes, device="cpu")
    test(TestOptions(config, checkpoint, evaluation="kitti", work_dir=tmp_path / "val", **options))
    written = {path.stem: path.read_text() for path in (tmp_path / "val/kitti_results").glob("*.txt")}
    rows = {frame: text.split() for frame, text in written.items() if text}
    assert set(written) == {"000000", "000001", "000002"} and rows["000001"][4:8] == [
        f"{v:.4f}" for v in (190, 40, 250, 110)
    ]
    assert len(rows) == 1 and rows["000001"][0] == "Cyclist"
    shutil.copytree(root / "training", root / "testing")
    shutil.rmtree(root / "testing/label_2")
    with pytest.raises(FileNotFoundError, match=r"testing.label_2 is missing, so there is no score; format_only"):
        test(TestOptions(config, checkpoint, work_dir=tmp_path / "a", split="testing", **options))
    assert test(TestOptions(config, checkpoint, work_dir=tmp_path, split="testing", format_only=True, **options)) == {}
    assert (tmp_path / "kitti_results/000001.txt").read_text() == written["000001"]
    with pytest.raises(ConfigError, match="--detections is for frustums of KITTI, it has ShapeNetPart"):
        test(TestOptions(*parts[1:], work_dir=tmp_path, **options))


def test_a_box_of_a_file_is_in_its_frame(frustums, tmp_path):
    """Turned about the origin the file gives the box turned likewise."""
    root, config, checkpoint = frustums
    points = np.random.default_rng(0).normal((15, 2, -1, 0.5), (1, 0.5, 0.4, 0.1), (200, 4)).astype(np.float32)
    turned = points.copy()
    turned[:, :2] = points[:, [1, 0]] * (-1, 1)  # by a quarter
    np.save(tmp_path / "ahead.npy", points)
    turned.tofile(tmp_path / "aside.bin")
    files = [tmp_path / "ahead.npy", tmp_path / "aside.bin"]
    options = InferOptions(config, checkpoint, files, out=tmp_path, min_score=0.0, category="Car", device="cpu")
    ahead, aside = (json.loads(path.read_text())["detections"][0] for path in infer(options))
    assert len(visualize(VisualizeOptions(config, results=tmp_path, save=tmp_path / "pictures"))) == 2
    x, y, z = ahead["center"]
    assert ahead["class"] == "Car" and aside["center"] == pytest.approx([-y, x, z], abs=1e-2)
    assert aside["size_lwh"] == pytest.approx(ahead["size_lwh"], abs=1e-2)
    assert np.cos(aside["yaw"] - ahead["yaw"] - np.pi / 2) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("end", ["npy", "bin", "txt"])
def test_a_frustum_without_points_has_no_box(frustums, tmp_path, end):
    root, config, checkpoint = frustums
    path = tmp_path / f"empty.{end}"
    if end == "npy":
        np.save(path, np.zeros((0, 4)))
    else:
        path.write_bytes(b"")
    options = InferOptions(config, checkpoint, [path], out=tmp_path / "out", min_score=0.0, category="Car")
    (result,) = infer(replace(options, device="cpu"))
    assert json.loads(result.read_text())["detections"] == []
    assert len(visualize(VisualizeOptions(config, results=result, save=tmp_path / "pictures"))) == 1
