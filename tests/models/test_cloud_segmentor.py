# SPDX-License-Identifier: Apache-2.0
"""The segmentor of clouds: labels reach their rows, the most probable view counts, parts stay in their category."""

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from pcperc.datasets import collate
from pcperc.datasets.shapenet_part_labels import PARTS
from pcperc.models import CloudSegmentor, RoomPreprocessor, ShapePreprocessor, pvcnn
from pcperc.models.cloud_segmentor import SHAPENET_PARTS


class Plane(nn.Module):
    """Logits that are linear in the features, of each point alone; counts its calls."""

    def __init__(self, channels, classes):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(channels, classes, generator=generator))
        self.calls = 0

    def forward(self, points, categories=None):
        self.calls += 1
        return points.replace(feats=points.feats @ self.weight)


def batch_of(*sizes, categories=None, columns=6, classes=50):
    rng, samples = np.random.default_rng(0), []
    for i, size in enumerate(sizes):
        sample = {"points": rng.normal(size=(size, columns)).astype(np.float32), "sample_token": f"s{i}"}
        sample["point_labels"] = rng.integers(0, classes, size)
        samples.append(sample | ({} if categories is None else {"category": categories[i]}))
    return collate(samples)


def run(model, batch, mode, training=False):
    return model(**model.data_preprocessor(batch, training), mode=mode)


def test_the_loss_sees_each_rows_own_label():
    model = CloudSegmentor(ShapePreprocessor(24, jitter=(0.0, 0.0)), Plane(6, 50), parts=SHAPENET_PARTS)
    batch = batch_of(40, 10, categories=[2, 7])
    torch.manual_seed(0)
    loss = run(model, batch, "loss", True)["loss_cross_entropy"]
    torch.manual_seed(0)
    clouds = model.data_preprocessor(batch, True)["inputs"]["clouds"]
    labels = torch.cat([s["point_labels"] for s in batch["samples"]])
    logits = clouds.feats.flatten(0, 1) @ model.backbone.weight
    expected = nn.functional.cross_entropy(logits, labels[clouds.point.flatten()])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert run(model, batch, "tensor").shape[1] == 50


def test_every_point_takes_its_most_probable_view_within_its_category():
    """Views of a room differ in where their middle is, so that a point's probabilities differ between them."""
    model = CloudSegmentor(RoomPreprocessor(16, block=1.0, grids=3), Plane(9, 13), clouds_at_once=4)
    batch = batch_of(70, 0, 30, classes=13, columns=9)
    found = run(model, batch, "predict")
    clouds = model.data_preprocessor(batch)["inputs"]["clouds"]
    assert model.backbone.calls == -(-len(clouds.xyz) // 4)
    best = {}
    for feats, point in zip(clouds.feats.flatten(0, 1), clouds.point.flatten().tolist(), strict=True):
        probability = (feats @ model.backbone.weight).softmax(0)
        best[point] = max(best.get(point, (0.0, 0)), (probability.max().item(), int(probability.argmax())))
    assert [len(f) for f in found] == [70, 0, 30] and len(best) == 100
    labels, scores = torch.cat([f.labels for f in found]), torch.cat([f.scores for f in found])
    assert labels.tolist() == [best[p][1] for p in range(100)]
    np.testing.assert_allclose(scores.detach(), [best[p][0] for p in range(100)], rtol=1e-5)


def test_parts_are_those_of_the_category():
    model = CloudSegmentor(ShapePreprocessor(16, votes=2), Plane(6, 50), parts=SHAPENET_PARTS)
    caps, tables = run(model, batch_of(20, 30, categories=[2, 15]), "predict")
    assert set(caps.labels.tolist()) == {6, 7} and set(tables.labels.tolist()) == {47, 48, 49}
    assert len(model.class_category) == 50 and not model.state_dict().keys() & {"class_category"}


def test_points_that_a_transform_left_out_have_no_class():
    batch = batch_of(5, categories=[0])
    batch["samples"][0] |= {"point_index": torch.tensor([1, 2, 4, 6, 7]), "num_recorded_points": 8}
    (found,) = run(CloudSegmentor(ShapePreprocessor(4), Plane(6, 50)), batch, "predict")
    assert found.labels[[0, 3, 5]].tolist() == [255] * 3 and (found.labels[[1, 2, 4, 6, 7]] < 50).all()


def test_two_shapes_are_learnt(device):
    backbone = pvcnn.pvcnn_shapenet(width=0.125, resolution_scale=0.125)
    model = CloudSegmentor(ShapePreprocessor(64, jitter=(0.0, 0.0)), backbone, parts=SHAPENET_PARTS).to(device)
    batch = batch_of(80, 80, categories=[2, 4])
    for sample, points, first in zip(batch["samples"], batch["inputs"]["points"], (6, 12), strict=True):
        sample["point_labels"] = first + (points[:, 2] > 0).long()
    optim = OptimWrapper(torch.optim.Adam(model.parameters(), lr=1e-2))
    for _ in range(60):
        model.train_step(batch, optim)
    right = [
        (found.labels.cpu() == sample["point_labels"]).float().mean()
        for found, sample in zip(model.eval().test_step(batch), batch["samples"], strict=True)
    ]
    assert min(right) > 0.9


def test_says_what_is_wrong():
    model = CloudSegmentor(ShapePreprocessor(4), Plane(6, 50))
    batch = batch_of(5, categories=[0])
    with pytest.raises(ValueError, match="mode must be 'tensor', 'loss' or 'predict', got 'train'"):
        run(model, batch, "train")
    batch["samples"][0]["point_labels"] = torch.zeros(3).long()
    with pytest.raises(ValueError, match="CloudSegmentor: sample s0 must have 5 point_labels, got 3"):
        run(model, batch, "loss")
    with pytest.raises(ValueError, match="clouds_at_once must be >= 1, got 0"):
        CloudSegmentor(ShapePreprocessor(4), Plane(6, 50), clouds_at_once=0)
    for parts in ((), (4, 0), (2.5,)):
        with pytest.raises(ValueError, match="CloudSegmentor: parts must be whole numbers >= 1, one of each c"):
            CloudSegmentor(ShapePreprocessor(4), Plane(6, 50), parts=parts)
    message = "parts are of categories, which the preprocessor must tell, got parts of 16 and a Shape"
    with pytest.raises(ValueError, match=message):
        CloudSegmentor(ShapePreprocessor(4, num_categories=0), Plane(6, 50), parts=SHAPENET_PARTS)
    model = CloudSegmentor(ShapePreprocessor(4, num_categories=2), Plane(6, 50), parts=(4, 2))
    for mode in ("loss", "predict"):
        with pytest.raises(ValueError, match="parts must be as many in all as the backbone has classes, 50, got 6"):
            run(model, batch_of(5, categories=[0]), mode)


def test_the_parts_of_shapenet_are_those_of_its_data():
    assert SHAPENET_PARTS == tuple(map(len, PARTS.values()))
    assert [part for numbers in PARTS.values() for part in numbers] == list(range(50))  # one after the other
