# SPDX-License-Identifier: Apache-2.0
"""tools/visualize.py on shapes, rooms and frustums: which pictures, and what is drawn in them."""

import cv2
import numpy as np
import pytest
import torch

from pcperc.datasets import S3DIS, KITTIFrustums, ModelNet40
from pcperc.engine import cloud_visualizing
from pcperc.engine.cloud_visualizing import CloudDrawings, show_clouds
from pcperc.engine.config import ConfigError
from pcperc.engine.visualizing import VisualizeOptions, visualize
from pcperc.geometry import CloudClass, Detections, PointLabels, transform_boxes
from pcperc.visualization.colors import SIMULATED, class_color
from pcperc.visualization.frustums import OBJECT, PREDICTED_BOX
from pcperc.visualization.point_colors import RIGHT, WRONG
from tests import kitti_root, shapenet_root
from tests.simulated_root import mark_simulated

CONFIG = """
from pcperc.datasets import ShapeNetPart

data_root = {root!r}
test_dataloader = dict(dataset=dict(type=ShapeNetPart, root=data_root, split={split!r}, test_mode=True), batch_size=1)
"""


def has(path, color) -> bool:
    picture = cv2.imread(str(path))[..., ::-1]
    return bool((picture == np.array(color)).all(-1).any())


def test_truth_of_shapes_by_the_tool(tmp_path, capsys):
    root = shapenet_root.write_root(tmp_path / "shapes")
    shapenet_root.write_list(root, "sim_val", ["02954340/shape0", "03797390/shape1", "02691156/shape0"])
    for split, simulated in (("val", False), ("sim_val", False), ("sim_val", True), ("val", True)):
        if simulated:
            mark_simulated(root)
        config = tmp_path / f"{split}.py"
        config.write_text(CONFIG.format(root=str(root), split=split))
        saved = visualize(VisualizeOptions(config, save=tmp_path / f"{split}_{simulated}", max_samples=2))
        assert [path.name[:4] for path in saved] == ["0000", "0002"]
        assert "2 pictures of 2 of 3 shapes in " in capsys.readouterr().out
        assert all(has(path, SIMULATED) == simulated for path in saved)
    with pytest.raises(ConfigError, match="--gif and --scene are for scenes"):
        visualize(VisualizeOptions(config, gif=tmp_path / "a.gif"))
    with pytest.raises(ConfigError, match="--color-by error is for scenes and events; pictures have all views"):
        visualize(VisualizeOptions(config, save=tmp_path, color_by="error"))


def test_the_window_has_what_the_pictures_have(tmp_path, monkeypatch):
    shown = []

    class Viewer:
        def __init__(self, frames, *, color_by, report):
            shown.extend(frames)

        def run(self):
            pass

    monkeypatch.setattr(cloud_visualizing, "CloudViewer", Viewer)
    config = tmp_path / "config.py"
    config.write_text(CONFIG.format(root=str(shapenet_root.write_root(tmp_path / "shapes")), split="val"))
    assert visualize(VisualizeOptions(config, max_samples=1)) == []  # which is of pictures
    names = ["Cap 02954340/shape2", "Mug 03797390/shape1", "Airplane 02691156/shape0"]
    assert [frame.title() for frame in shown] == names
    assert [list(frame.views) for frame in shown] == [["truth"]] * 3


def test_rooms_are_drawn_whole_from_the_votes_of_their_blocks(tmp_path):
    rng = np.random.default_rng(0)
    for room in ("office_1", "office_2"):
        xyz, labels = rng.uniform(0, 3, (300, 3)), rng.integers(1, 3, 300)
        np.save(tmp_path / f"Area_5_{room}.npy", np.concatenate([xyz, np.full((300, 3), 90), labels[:, None]], 1))
    data, asked = S3DIS(root=tmp_path, split="val"), []

    def predict(index, sample):
        asked.append(index)
        labels = torch.from_numpy(sample["point_labels"]).clone()
        labels[sample["room_index"] < 50] = 8  # chairs, wrong
        return PointLabels(labels, torch.ones(len(labels)))

    saved = show_clouds(data, predict, tmp_path / "out", max_samples=0, simulated=False)
    assert [path.name for path in saved] == ["0000_Area_5_office_1.png", "0001_Area_5_office_2.png"]
    assert asked == list(range(len(data)))
    picture = cv2.imread(str(saved[0]))
    assert picture.shape[1] == 4 * 480 + 170  # colour, truth, prediction, error
    assert has(saved[0], RIGHT) and has(saved[0], WRONG) and has(saved[0], class_color("chair"))
    truth = show_clouds(data, lambda index, sample: None, tmp_path / "t", max_samples=1, simulated=False)
    assert cv2.imread(str(truth[0])).shape[1] == 2 * 480 + 170


def test_frustums_with_their_boxes(tmp_path):
    data = KITTIFrustums(root=kitti_root.write_root(tmp_path / "kitti"), split="sim_val")

    def predict(index, sample):
        if index == 1:
            return Detections.empty()
        box = sample["box"][None].astype(np.float64) + [[0.3, 0, 0, 0, 0, 0, 0.2]]
        box = transform_boxes(box, sample["frustum2lidar"], upright="source")
        boxes = torch.from_numpy(np.concatenate([box, np.zeros((1, 2))], 1))
        return Detections(boxes, torch.tensor([0.8]), torch.tensor([sample["class_index"]]))

    saved = show_clouds(data, predict, tmp_path / "out", max_samples=0, simulated=True)
    assert [path.name for path in saved] == ["0000_000000_0.png", "0001_000000_1.png", "0002_000001_0.png"]
    assert [has(path, PREDICTED_BOX) for path in saved] == [True, False, True]
    assert all(has(path, OBJECT) for path in saved)
    drawings = CloudDrawings(data, predict, simulated=False, trained_on_simulated=lambda index: index != 1)
    assert [drawing.arguments["trained_on_simulated"] for drawing in drawings] == [True, False, True]
    truth = CloudDrawings(data, lambda *_: None, simulated=False, trained_on_simulated=lambda index: True)
    assert not any(drawing.arguments["trained_on_simulated"] for drawing in truth)  # of no network


def test_whole_shapes(tmp_path):
    (tmp_path / "modelnet40_test.txt").write_text("xbox_0001\n")
    (tmp_path / "xbox").mkdir()
    rows = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 6))
    (tmp_path / "xbox/xbox_0001.txt").write_text("".join(",".join(f"{v:f}" for v in row) + "\n" for row in rows))
    data = ModelNet40(root=tmp_path, split="test")
    saved = show_clouds(
        data, lambda index, sample: CloudClass(0, 0.5), tmp_path / "out", max_samples=5, simulated=False
    )
    assert len(saved) == 1
