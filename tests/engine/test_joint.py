# SPDX-License-Identifier: Apache-2.0
"""A network with two heads through the tools: trained, scored by either evaluation or both, drawn, and run on files."""

import json

import cv2
import numpy as np
import pytest

from pcperc.datasets import MAP_CLASSES
from pcperc.engine import scene_visualizing
from pcperc.engine.checkpoint import load_checkpoint
from pcperc.engine.config import ConfigError
from pcperc.engine.inference import InferOptions, infer
from pcperc.engine.testing import TestOptions, test
from pcperc.engine.training import TrainOptions, train
from pcperc.engine.visualizing import VisualizeOptions, visualize
from pcperc.models.bevfusion.detection_votes import DetectionVotes
from tests.engine.helpers import read_losses
from tests.nuscenes_root import sweep_points, write_tiny_root

CONFIG = "tests/engine/tiny_joint_config.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny_root(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("work")
    return train(TrainOptions(CONFIG, work_dir=work_dir, device="cpu", overrides={"data_root": str(root)}))


def options(trained, root, tmp_path, **more):
    return TestOptions(CONFIG, trained, work_dir=tmp_path, data_root=str(root), device="cpu", **more)


def test_losses_of_both_heads_are_logged(trained):
    losses = read_losses(trained.parent)
    assert len(losses) == 3 and load_checkpoint(trained)["meta"]["finished"]
    expected = {f"map/loss_{name}" for name in MAP_CLASSES} | {"object/loss_heatmap", "object/loss_box"}
    assert expected <= set(losses[1]) and all(losses[1][name] > 0 for name in ("map/loss_divider", "loss"))


def test_both_evaluations_and_each_alone(trained, root, tmp_path, capsys):
    both = test(options(trained, root, tmp_path / "both"))
    assert {"NDS", "map/mIoU"} <= set(both)
    text = capsys.readouterr().out
    assert "nuScenes detection" in text and "BEV map segmentation" in text and "mIoU: " in text
    alone = test(options(trained, root, tmp_path / "map", evaluation="map"))
    assert "NDS" not in alone and alone.items() <= both.items()
    assert {path.name for path in (tmp_path / "map").glob("*.json")} == {"scores.json"}
    assert "map/mIoU" not in test(options(trained, root, tmp_path / "boxes", evaluation="nuscenes"))
    with pytest.raises(ConfigError, match="--eval lidarseg: .* is evaluated by --eval nuscenes or map"):
        test(options(trained, root, tmp_path, evaluation="lidarseg"))


def test_views_vote_on_a_map_alone(trained, root, tmp_path, monkeypatch):
    merged = []
    merge = DetectionVotes.merge_maps
    monkeypatch.setattr(
        DetectionVotes, "merge_maps", lambda self, views: merged.append(len(views)) or merge(self, views)
    )
    assert "map/mIoU" in test(options(trained, root, tmp_path, evaluation="map", tta=(10.0,)))
    assert merged and set(merged) == {12}


def test_options_that_would_change_nothing(trained, root, tmp_path):
    with pytest.raises(ConfigError, match="--blank-images is for models with cameras, its model looks at none"):
        test(options(trained, root, tmp_path, blank_images=True))


def test_pictures_of_map_prediction_and_error(trained, root, tmp_path, monkeypatch):
    monkeypatch.setattr(scene_visualizing, "open3d_problem", lambda: "not needed here")
    saved = visualize(
        VisualizeOptions(CONFIG, trained, save=tmp_path, max_samples=1, data_root=str(root), device="cpu")
    )
    (path,) = [path for path in saved if path.stem.endswith("_map")]
    assert cv2.imread(str(path)).shape[1] > 3 * 500, "three pictures and a legend"


def test_files_get_boxes_and_a_map(trained, tmp_path):
    points = sweep_points(3)
    points.tofile(tmp_path / "scan.bin")
    (written,) = infer(
        InferOptions(CONFIG, trained, [tmp_path / "scan.bin"], out=tmp_path / "out", columns=5, device="cpu")
    )
    found = json.loads(written.read_text())
    assert [row["class"] for row in found["map"]] == list(MAP_CLASSES) and "detections" in found
    probabilities = np.load(written.with_suffix(".map.npy"), allow_pickle=False)
    assert probabilities.shape == (6, 100, 100) and probabilities.dtype == np.float32
    assert found["map"][0]["square_metres"] == (probabilities[0] >= 0.5).sum()
    drawn = visualize(VisualizeOptions(CONFIG, results=written, save=tmp_path / "pictures"))
    assert {"0000_scan.bin_birds_eye.png", "0000_scan.bin_map.png"} <= {path.name for path in drawn}
