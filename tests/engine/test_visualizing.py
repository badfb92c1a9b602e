# SPDX-License-Identifier: Apache-2.0
"""tools/visualize.py from its options to its pictures, on a tiny data set."""

import cv2
import numpy as np
import pytest
import torch

from pcperc.datasets import CLASSES, NuScenesDataset
from pcperc.engine import scene_visualizing
from pcperc.engine.config import ConfigError
from pcperc.engine.data import DataMissing
from pcperc.engine.visualizing import VisualizeOptions, visualize
from pcperc.evaluation import write_results
from pcperc.geometry import Detections
from tests.nuscenes_root import VERSION, write_tiny_root

CONFIG = """
from pcperc.datasets import NuScenesDataset
from pcperc.transforms import ResizeCrop

data_root = {root!r}
data_version = {version!r}
test_dataloader = dict(
    dataset=dict(
        type=NuScenesDataset,
        root=data_root,
        version=data_version,
        split="sim_val",
        num_sweeps=2,
        transforms=[dict(type=ResizeCrop, final_size=(8, 16), resize=0.5)],
        test_mode=True,
    ),
    batch_size=1,
)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny_root(tmp_path_factory.mktemp("root"))


@pytest.fixture
def config(root, tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(CONFIG.format(root=str(root), version=VERSION))
    return path


@pytest.fixture
def results(root, config, tmp_path):
    """Every box of the validation split found 1 m to the side, with falling scores."""
    visualize(VisualizeOptions(config, save=tmp_path / "prepare", max_samples=1))  # prepares the index
    dataset = NuScenesDataset(root=root, version=VERSION, split="sim_val", num_sweeps=0)
    rows = []
    for index in range(len(dataset)):
        sample = dataset.read_sample(index)
        boxes = torch.from_numpy(sample["boxes"]) + torch.tensor([1.0] + [0] * 8)
        scores = torch.linspace(0.9, 0.1, len(boxes))
        lidar2global = sample["ego2global"] @ sample["lidar2ego"]
        rows.append(
            (sample["sample_token"], Detections(boxes, scores, torch.from_numpy(sample["labels"])), lidar2global)
        )
    return write_results(tmp_path / "results_nusc.json", rows, classes=CLASSES)


def test_truth_alone(config, tmp_path, capsys):
    saved = visualize(VisualizeOptions(config, save=tmp_path / "out", max_samples=2))
    kinds = {path.stem.split("_", 2)[2] for path in saved}
    assert {"birds_eye", "cameras"} <= kinds <= {"birds_eye", "cameras", "scene"}
    assert {path.stem[:4] for path in saved} == {"0000", "0002"}  # two of three, spread over the split
    assert all(cv2.imread(str(path)).std() > 1 for path in saved)
    assert f"{len(saved)} pictures of 2 of 3 samples in " in capsys.readouterr().out


def test_a_lidar_model_is_shown_on_the_images_too(config, root, tmp_path):
    lidar_only = tmp_path / "lidar.py"
    text = config.read_text().replace("num_sweeps=2,", 'num_sweeps=0,\n        modalities=("lidar",),')
    lidar_only.write_text(text.replace("dict(type=ResizeCrop, final_size=(8, 16), resize=0.5)", ""))
    saved = visualize(VisualizeOptions(lidar_only, save=tmp_path / "out", max_samples=1))
    assert any(path.stem.endswith("cameras") for path in saved)


def test_results_beside_the_truth(config, results, tmp_path, monkeypatch):
    frames = []

    def draw(frame, **_):
        frames.append(frame)
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(scene_visualizing, "draw_birds_eye", draw)
    monkeypatch.setattr(scene_visualizing, "draw_camera_mosaic", lambda frame: np.zeros((2, 2, 3), np.uint8))
    monkeypatch.setattr(scene_visualizing, "open3d_problem", lambda: "no Open3D here")
    visualize(VisualizeOptions(config, results=results, save=tmp_path / "out", max_samples=0, score_threshold=0.5))
    assert len(frames) == 3
    for frame in frames:
        assert frame.simulated and len(frame.cameras) == 6
        shown = frame.predictions
        assert 0 < len(shown) < len(frame.truth) and shown.scores.min() >= 0.5
        aside = shown.boxes[:, :3] - frame.truth.boxes[: len(shown), :3]
        np.testing.assert_allclose(aside, [[1, 0, 0]] * len(shown), atol=1e-3)
    assert len(frames[1].points) == 320  # the key sweep alone; of the first sample of a scene also its stand-ins


def test_pictures_that_need_no_open3d_are_drawn_without_it(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scene_visualizing, "open3d_problem", lambda: "Open3D cannot be loaded; make system-packages")
    saved = visualize(VisualizeOptions(config, save=tmp_path / "out", max_samples=1))
    assert [path.stem.split("_", 2)[2] for path in saved] == ["birds_eye", "cameras"]
    assert capsys.readouterr().out.count("make system-packages") == 1


def test_low_scores_are_explained(config, results, tmp_path, capsys):
    options = VisualizeOptions(config, results=results, save=tmp_path / "out", max_samples=1, score_threshold=0.95)
    visualize(options)
    assert "no prediction reaches --score-threshold 0.95 (the best has 0.900)" in capsys.readouterr().out


def test_what_does_not_fit_is_named(config, results, tmp_path):
    with pytest.raises(ConfigError, match=r"results_nusc\.json must hold every sample of sim_train"):
        visualize(VisualizeOptions(config, results=results, split="sim_train", save=tmp_path / "out"))
    with pytest.raises(ConfigError, match="a checkpoint or --results must be given, not both"):
        visualize(VisualizeOptions(config, results=results, checkpoint=tmp_path / "a.pth"))
    with pytest.raises(DataMissing, match="nowhere is missing, and so is the data of the profiles"):
        visualize(VisualizeOptions(config, data_root=str(tmp_path / "nowhere"), save=tmp_path / "out"))
    with pytest.raises(FileNotFoundError, match=r"results file .*none\.json is missing"):
        visualize(VisualizeOptions(config, results=tmp_path / "none.json", save=tmp_path / "out"))
