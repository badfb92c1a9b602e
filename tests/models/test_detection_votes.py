# SPDX-License-Identifier: Apache-2.0
"""Views of a scene are undone exactly, and their boxes merged as a slow loop merges them."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from pcperc.geometry import BEVGrid, Detections, MapPrediction
from pcperc.models.bevfusion.detection_votes import DetectionVotes
from pcperc.models.bevfusion.detector import BEVFusion
from pcperc.models.bevfusion.view_transform import LSSTransform
from pcperc.registry import MODELS
from tests import oracles, oracles_center_head
from tests.models.bevfusion_small import make_batch, scene_points, small_config


def random_views(seed: int, num_views: int = 4) -> list[Detections]:
    """Objects that most views see, a little aside, some headed the wrong way; and boxes of one view alone."""
    rng = np.random.default_rng(seed)
    objects = np.c_[rng.uniform(-20, 20, (12, 2)), rng.normal(size=12), rng.uniform(1, 6, (12, 3))]
    objects = np.c_[objects, rng.uniform(-3, 3, 12), rng.normal(size=(12, 2))]
    views = []
    for _ in range(num_views):
        seen = rng.random(12) < 0.8
        boxes = objects[seen] + rng.normal(size=(seen.sum(), 9)) * 0.1
        boxes[:, 6] += math.pi * (rng.random(len(boxes)) < 0.2)
        extra = np.c_[rng.uniform(-20, 20, (3, 2)), np.zeros(3), rng.uniform(1, 3, (3, 3)), rng.normal(size=(3, 3))]
        boxes = torch.from_numpy(np.concatenate([boxes, extra])).float()
        labels = np.concatenate([np.arange(12)[seen] % 3, [0, 1, 2]])
        views.append(Detections(boxes, torch.rand(len(boxes)), torch.from_numpy(labels)))
    return views


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.6])
def test_merging_equals_the_loop(threshold, device):
    views = random_views(1)
    found = DetectionVotes(iou_threshold=threshold).merge([view.to(device) for view in views])
    rows = [
        list(zip(view.boxes.double().tolist(), view.scores.tolist(), view.labels.tolist(), strict=True))
        for view in views
    ]

    def overlap(a, b):
        return oracles.box_iou([a], [b], use_height=False)[0, 0]

    expected = oracles_center_head.merge_views(rows, overlap, threshold)
    assert len(expected) < sum(map(len, views)) and found.labels.tolist() == [row[2] for row in expected]
    np.testing.assert_allclose(found.scores.cpu().numpy(), [row[1] for row in expected], rtol=1e-5)
    np.testing.assert_allclose(found.boxes.cpu().numpy(), [row[0] for row in expected], rtol=1e-4, atol=1e-4)


def test_merging_nothing_and_boxes_without_area():
    nothing = Detections.empty()
    assert len(DetectionVotes().merge([nothing, nothing])) == 0
    flat = Detections(torch.zeros(2, 9), torch.tensor([0.5, 0.4]), torch.zeros(2, dtype=torch.int64))
    found = DetectionVotes().merge([flat, nothing])
    assert found.scores.tolist() == [0.25, pytest.approx(0.2)]


def test_views_are_mirrored_and_turned():
    votes = DetectionVotes(turns_deg=(90.0,))
    matrices = votes.matrices()
    assert matrices.shape == (8, 4, 4) and torch.equal(matrices[0], torch.eye(4).double())
    point = torch.tensor([1.0, 2, 3, 1]).double()
    seen = {tuple(value for value in (matrix @ point).round(decimals=9).tolist()[:3]) for matrix in matrices}
    assert seen == {(x, y, 3.0) for x, y in ((1, 2), (-1, 2), (1, -2), (-1, -2), (-2, 1), (-2, -1), (2, 1), (2, -1))}
    assert DetectionVotes(flips=False).matrices().shape == (1, 4, 4)


class FirstPoints(nn.Module):
    """Stands for a whole network: two points of a cloud become a box at the first, headed to the second."""

    def forward(self, given):
        return torch.stack([cloud[:2] for cloud in given["points"]]) if isinstance(given, dict) else given

    def predict(self, points):
        found = []
        for first, second in points[..., :3]:
            heading = second - first
            box = torch.cat([first, torch.ones(3) * 2, torch.atan2(heading[1], heading[0])[None], heading[:2]])
            found.append(Detections(box[None], torch.ones(1), torch.zeros(1, dtype=torch.int64)))
        return found


@pytest.mark.parametrize("augmented", [False, True])
def test_every_view_is_undone(augmented):
    """Position, heading and velocity of a detector that sees where points are: eight views agree on one box."""
    parts = {"encoders": {"lidar": FirstPoints()}, "decoder": nn.Identity(), "heads": {"object": FirstPoints()}}
    votes = DetectionVotes(turns_deg=(17.0,))
    model, plain = BEVFusion(**parts, votes=votes), BEVFusion(**parts)
    lidar_aug = torch.eye(4).repeat(2, 1, 1)
    if augmented:
        lidar_aug[1] = torch.tensor([[0.0, 1.1, 0, 3], [1.1, 0, 0, -2], [0, 0, 1.1, 0.5], [0, 0, 0, 1]])
    inputs = {"points": [torch.randn(5, 4) * 5, torch.randn(3, 4) * 5], "lidar_aug": lidar_aug}
    found, expected = model(inputs, mode="predict"), plain(inputs, mode="predict")
    for one, other in zip(found, expected, strict=True):
        assert len(one) == 1 and one.scores.item() == pytest.approx(1)
        torch.testing.assert_close(one.boxes, other.boxes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("modalities", [("lidar",), ("camera",), ("camera", "lidar")], ids="+".join)
def test_the_whole_network_with_votes(modalities):
    """Voxels are made anew and rays follow: what one view sees of a mirrored scene, another sees of the scene."""
    config = small_config(modalities=modalities)
    if modalities == ("camera",):
        config["encoders"]["camera"]["view_transform"]["type"] = LSSTransform
    model = MODELS.build({**config, "votes": dict(type=DetectionVotes)}).eval()
    mirror = torch.diag(torch.tensor([-1.0, 1, 1, 1]))
    points = scene_points()
    mirrored = torch.cat([points[:, :1] * -1, points[:, 1:]], 1)
    results = []
    for cloud, lidar_aug in ((points, torch.eye(4)), (mirrored, mirror)):
        batch = make_batch([cloud], images="camera" in modalities, lidar_aug=lidar_aug[None])
        if modalities == ("camera",):
            del batch["inputs"]["points"]
        with torch.no_grad():
            results += model(**model.data_preprocessor(batch, False), mode="predict")
    assert len(results[0]) > 3
    torch.testing.assert_close(results[0].scores, results[1].scores, rtol=1e-4, atol=1e-5)


class Ground(nn.Module):
    """Stands for a network that sees a map: how far each place of the scene is from a line, in the view's frame."""

    grid = BEVGrid((-10.0, 10.0, 0.5), (-6.0, 6.0, 0.5))

    def forward(self, given):
        return given["lidar_aug"] if isinstance(given, dict) else given

    def predict(self, lidar_aug):
        places = torch.from_numpy(self.grid.centres()).double()
        places = torch.cat([places, torch.zeros_like(places[..., :1]), torch.ones_like(places[..., :1])], -1)
        recorded = [places @ torch.linalg.inv(matrix.double()).T for matrix in lidar_aug]
        return [MapPrediction(self.of(places).float(), self.grid) for places in recorded]

    @staticmethod
    def of(places):
        x, y = places[..., 0], places[..., 1]
        return torch.stack([0.5 + 0.02 * x + 0.03 * y, 0.4 - 0.03 * x, (x > 2.1).double()])


@pytest.mark.parametrize("turns", [(), (17.0, -17.0)])
def test_every_view_of_a_map_is_undone(turns):
    """Mirrored views agree in every cell; a turned one reads planes, but for the half cell along its map's edge."""
    parts = {"encoders": {"lidar": Ground()}, "decoder": nn.Identity(), "heads": {"map": Ground()}}
    lidar_aug = torch.stack([torch.eye(4), torch.diag(torch.tensor([1.0, -1, 1, 1]))])
    model = BEVFusion(**parts, votes=DetectionVotes(turns_deg=turns))
    found = model({"lidar_aug": lidar_aug}, mode="predict")
    expected = BEVFusion(**parts)({"lidar_aug": lidar_aug}, mode="predict")
    planes, near = (slice(2), 0.005) if turns else (slice(None), 2e-5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.probabilities[planes], other.probabilities[planes], rtol=0, atol=near)


def test_maps_of_views_are_averaged():
    """Of a mirrored view a cell takes the value of the mirrored cell; the four are averaged."""
    votes, grid = DetectionVotes(), Ground.grid
    views = [torch.rand(2, *grid.shape) for _ in range(4)]
    found = votes.merge_maps([MapPrediction(view, grid) for view in views])
    wanted = (views[0] + views[1].flip(1) + views[2].flip(2) + views[3].flip(1, 2)) / 4
    torch.testing.assert_close(found.probabilities, wanted, rtol=0, atol=1e-5)


def test_threshold_is_checked():
    with pytest.raises(ValueError, match=r"iou_threshold must be in \[0, 1\], got 2"):
        DetectionVotes(iou_threshold=2)
