# SPDX-License-Identifier: Apache-2.0
"""A class for a whole cloud: the network, the mean over what was drawn, and the score."""

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from pcperc.datasets import collate
from pcperc.evaluation.classification_metric import ClassificationMetric
from pcperc.models import CloudClassifier, ShapePreprocessor, pvcnn
from pcperc.registry import MODELS
from tests.models.pvcnn_clouds import cloud_of


def batch_of(*sizes):
    rng = np.random.default_rng(0)
    return collate(
        [
            {"points": rng.normal(size=(n, 6)).astype(np.float32) * (1, 1, 4 * (i % 2) + 1, 1, 1, 1), "category": i % 2}
            | {"sample_token": f"s{i}"}
            for i, n in enumerate(sizes)
        ]
    )


def classifier(backbone, **options):
    return CloudClassifier(ShapePreprocessor(32, num_categories=0, jitter=(0.0, 0.0), **options), backbone)


class Mean(nn.Module):
    """Logits that are the mean features of each cloud."""

    def forward(self, points):
        return points.feats.reshape(points.batch_size, -1, points.num_channels).mean(1) * 3


def test_the_network_sees_each_cloud_alone(device):
    model = pvcnn.pvcnn_modelnet(width=0.125, resolution_scale=0.25).eval().to(device)
    points = cloud_of(20, 0, 35, channels=6, dtype=torch.float32, device=device)
    out = model(points)
    assert out.shape == (3, 40)
    alone = points.take((points.coords[:, 0] == 2).nonzero().squeeze(1).int())
    torch.testing.assert_close(model(alone)[2], out[2], rtol=1e-4, atol=1e-5)
    assert isinstance(MODELS.build(dict(type="pvcnn_modelnet", width=0.125)), pvcnn.PVCNNClassifier)


def test_the_mean_over_the_drawn_clouds_counts():
    model, batch = classifier(Mean(), votes=2), batch_of(50, 0, 20)
    found = model(**model.data_preprocessor(batch), mode="predict")
    clouds = model.data_preprocessor(batch)["inputs"]["clouds"]
    assert clouds.item.tolist() == [0] * 4 + [2] * 2 and clouds.categories is None
    for item, prediction in ((0, found[0]), (2, found[2])):
        score, label = (clouds.feats[clouds.item == item].mean(1) * 3).softmax(1).mean(0).max(0)
        assert prediction.label == label and prediction.score == pytest.approx(score.item(), rel=1e-5)
    assert (found[1].label, found[1].score) == (255, 0.0)


def test_two_kinds_of_clouds_are_learnt(device):
    model = classifier(pvcnn.pvcnn_modelnet(2, width=0.125, resolution_scale=0.125)).to(device)
    batch = batch_of(40, 50, 60, 30)
    optim = OptimWrapper(torch.optim.Adam(model.parameters(), lr=3e-3))
    for _ in range(40):
        model.train_step(batch, optim)
    metric = ClassificationMetric()
    metric.process(batch, model.eval().test_step(batch))
    assert metric.evaluate(4) == {"accuracy": 1.0, "mean_class_accuracy": 1.0}


def test_accuracy_by_samples_and_by_classes():
    metric = ClassificationMetric()
    results = [("a", 0, 0), ("b", 0, 0), ("c", 0, 1), ("d", 3, 1)]
    found = metric.compute_metrics(results)
    assert found == {"accuracy": 0.5, "mean_class_accuracy": pytest.approx((2 / 3 + 0) / 2)}
    with pytest.raises(ValueError, match="data_samples must have 2 entries, got 0"):
        metric.process({"samples": [{}, {}]}, [])


def test_says_what_is_wrong():
    model, batch = classifier(Mean()), batch_of(9)
    del batch["samples"][0]["category"]
    with pytest.raises(ValueError, match="CloudClassifier: sample s0 must have a category, has none"):
        model(**model.data_preprocessor(batch, True), mode="loss")
    with pytest.raises(ValueError, match="mode must be 'tensor', 'loss' or 'predict', got 'x'"):
        model(**model.data_preprocessor(batch), mode="x")
