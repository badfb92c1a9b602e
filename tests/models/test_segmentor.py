# SPDX-License-Identifier: Apache-2.0
"""The segmentor: labels reach their rows, every recorded point gets a class, votes are means, empty scans pass."""

import math

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper

from pcperc.datasets import SemanticKITTI, collate
from pcperc.evaluation import SemanticKITTIMetric
from pcperc.models import SPVCNN, MinkUNet, OnVoxels, SegmentationLoss, Segmentor, Votes, VoxelPreprocessor
from pcperc.transforms import PointsRangeFilter, ShufflePoints
from tests import semantickitti_root as tiny
from tests.planes import Planes


def batch_of(*sizes: int, classes: int = 3) -> dict:
    samples = []
    for i, count in enumerate(sizes):
        points = np.random.default_rng(i).uniform(-3, 3, (count, 5)).astype(np.float32)
        labels = np.random.default_rng(i).integers(0, classes, count)
        samples.append({"points": points, "point_labels": labels, "sample_token": f"00/{i:06d}"})
    return collate(samples)


def run(model, batch, mode, *, training=False):
    return model(**model.data_preprocessor(batch, training), mode=mode)


@pytest.mark.parametrize("rows", ["all", "one_per_voxel"])
def test_the_loss_sees_each_rows_own_label(rows):
    backbone, batch = Planes(), batch_of(40, 0, 60)
    model = Segmentor(VoxelPreprocessor(0.5, points=rows, max_voxels=30), backbone, SegmentationLoss(lovasz=1.0))
    torch.manual_seed(0)
    losses = run(model, batch, "loss", training=True)
    torch.manual_seed(0)
    row_point = model.data_preprocessor(batch, True)["inputs"]["prepared"].row_point
    points = torch.cat(batch["inputs"]["points"])[row_point, :4]
    labels = torch.cat([s["point_labels"] for s in batch["samples"]])[row_point]
    assert 0 < len(labels) < 100
    expected = SegmentationLoss(lovasz=1.0)(points @ backbone.weight, labels)
    assert losses.keys() == expected.keys()
    for name in losses:
        assert losses[name].item() == pytest.approx(expected[name].item(), rel=1e-6)


def test_a_point_takes_the_class_of_its_row():
    backbone, batch = Planes(), batch_of(50, 0, 30)
    whole = run(Segmentor(VoxelPreprocessor(0.5), backbone), batch, "predict")
    for prediction, points in zip(whole, batch["inputs"]["points"], strict=True):
        scores, labels = (points[:, :4] @ backbone.weight).softmax(1).max(1)
        assert torch.equal(prediction.labels, labels)
        torch.testing.assert_close(prediction.scores, scores)
    capped = Segmentor(VoxelPreprocessor(0.5, max_voxels=5), backbone)
    data = capped.data_preprocessor(batch, True)
    gone = (data["inputs"]["prepared"].point_row < 0).split([50, 0, 30])
    for few, all_, left_out in zip(capped(**data, mode="predict"), whole, gone, strict=True):
        assert torch.equal(few.labels, torch.where(left_out, 255, all_.labels))
        assert torch.equal(few.scores == 0, left_out) and (len(left_out) == 0 or 0 < left_out.sum() < len(left_out))
    by_voxel = run(Segmentor(VoxelPreprocessor(1.0, points="one_per_voxel"), backbone), batch, "predict")
    cells = batch["inputs"]["points"][0][:, :3].floor().tolist()
    for i, cell in enumerate(cells):
        assert by_voxel[0].labels[i] == whole[0].labels[cells.index(cell)]


def test_votes_are_the_mean_probability_over_turns_and_mirror_images():
    backbone, batch = Planes(), batch_of(30, 20)
    model = Segmentor(VoxelPreprocessor(0.5), backbone, votes=Votes(3, flips=True))
    for prediction, points in zip(run(model, batch, "predict"), batch["inputs"]["points"], strict=True):
        total = torch.zeros(len(points), 3, dtype=torch.float64)
        for turn in range(3):
            cos, sin = math.cos(2 * math.pi * turn / 3), math.sin(2 * math.pi * turn / 3)
            for side in (1, -1):
                x, y, z, intensity = points[:, :4].double().unbind(1)
                moved = torch.stack([cos * x - sin * side * y, sin * x + cos * side * y, z, intensity], 1)
                total += (moved @ backbone.weight.double()).softmax(1)
        scores, labels = (total / 6).max(1)
        assert torch.equal(prediction.labels, labels)
        torch.testing.assert_close(prediction.scores.double(), scores, atol=1e-6, rtol=0)
    capped = Segmentor(VoxelPreprocessor(0.5, max_voxels=3), backbone, votes=Votes(3, flips=True))
    for few, all_ in zip(run(capped, batch, "predict"), run(model, batch, "predict"), strict=True):
        assert torch.equal(few.labels, all_.labels) and torch.equal(few.scores, all_.scores)  # the cap is of training
    assert len(Votes(4, flips=False).matrices()) == 4
    with pytest.raises(ValueError, match="rotations must be >= 1, got 0"):
        Votes(0)


def test_points_that_a_transform_left_out_get_no_class(tmp_path):
    transforms = [ShufflePoints(), PointsRangeFilter(point_range=(0, -30, -5, 30, 30, 5))]
    data = SemanticKITTI(root=tiny.write_root(tmp_path), split="sim_val", transforms=transforms)
    batch = collate([data[0]])
    backbone = Planes(19)
    (prediction,) = run(Segmentor(VoxelPreprocessor(0.5), backbone), batch, "predict")
    scan = torch.from_numpy(tiny.scan_of(20))
    inside = scan[:, 0] >= 0
    assert 0 < inside.sum() < tiny.NUM_POINTS == len(prediction)
    expected = (scan @ backbone.weight).argmax(1)
    assert torch.equal(prediction.labels, torch.where(inside, expected, 255))
    assert torch.equal(prediction.scores > 0, inside)
    nothing = SemanticKITTI(
        root=tmp_path, split="sim_val", transforms=[PointsRangeFilter(point_range=(90, 90, 90, 91, 91, 91))]
    )
    (prediction,) = run(Segmentor(VoxelPreprocessor(0.5), backbone), collate([nothing[0]]), "predict")
    assert prediction.labels.tolist() == [255] * tiny.NUM_POINTS


@pytest.mark.parametrize("net", [lambda: SPVCNN(4, 3, width=0.125), lambda: OnVoxels(MinkUNet(4, 3, width=0.125))])
@pytest.mark.parametrize("sizes", [(0,), (1,), (0, 0), (1, 1), (0, 25)])
def test_scans_of_no_point_or_one(net, sizes, device):
    model = Segmentor(VoxelPreprocessor(0.5), net(), SegmentationLoss(lovasz=1.0), votes=Votes(2)).to(device)
    batch = batch_of(*sizes)
    losses = run(model.train(), batch, "loss", training=True)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    # All of them: a process whose scans are empty must take part in what the others add up.
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        predictions = run(model.eval(), batch, "predict")
    assert [len(prediction) for prediction in predictions] == list(sizes)


def test_steps_of_mmengine_learn_a_scan_and_score_it(tmp_path):
    data = SemanticKITTI(root=tiny.write_root(tmp_path), split="sim_val")
    batch = collate([data[0], data[1]])
    model = Segmentor(VoxelPreprocessor(0.25), SPVCNN(4, 19, width=0.25, dropout=0.0), SegmentationLoss(lovasz=1.0))
    optimizer = OptimWrapper(torch.optim.Adam(model.parameters(), lr=0.01))
    first = model.train_step(batch, optimizer)
    for _ in range(40):
        last = model.train_step(batch, optimizer)
    assert last["loss"] < 0.2 * first["loss"]
    metric = SemanticKITTIMetric()
    metric.dataset_meta = data.metainfo
    metric.process(batch, model.eval().val_step(batch))
    assert metric.evaluate(2)["accuracy"] > 0.9


def test_refusals():
    model, batch = Segmentor(VoxelPreprocessor(0.5), Planes()), batch_of(5, 6)
    with pytest.raises(ValueError, match="mode must be 'tensor', 'loss' or 'predict', got 'train'"):
        run(model, batch, "train")
    batch["samples"][1]["point_labels"] = batch["samples"][1]["point_labels"][:4]
    with pytest.raises(ValueError, match="sample 00/000001 must have 6 point_labels, got 4"):
        run(model, batch, "loss")
    del batch["samples"][1]["point_labels"]
    with pytest.raises(ValueError, match="sample 00/000001 must have 6 point_labels, got none"):
        run(model, batch, "loss")
    assert len(run(model, batch, "tensor")) == 11
