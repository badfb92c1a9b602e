# SPDX-License-Identifier: Apache-2.0
"""From hits to clusters: preparation, losses, class and number of each cluster, events of which there is little."""

import numpy as np
import pytest
import torch
from torch import nn

from pcperc.datasets import collate
from pcperc.evaluation import match_clusters
from pcperc.geometry import HitClusters
from pcperc.models.calorimeter import (
    CaloSPVCNN,
    CentreOffset,
    DiscriminativeEmbedding,
    HitClusterer,
    HitOutputs,
    HitPreprocessor,
    ObjectCondensation,
)
from tests.calorimeter_events import made_event

GROUPINGS = {"condensation": ObjectCondensation(2), "embedding": DiscriminativeEmbedding(3), "offset": CentreOffset()}


class Told(nn.Module):
    """A network that says what it was told."""

    def __init__(self, logits, embedding):
        super().__init__()
        self.found = HitOutputs(logits, embedding)

    def forward(self, points):
        return self.found


def hits(energy, xyz):
    event = torch.zeros(len(energy), 9)
    event[:, 0], event[:, 5:8] = torch.tensor(energy), torch.tensor(xyz).reshape(-1, 3)
    return event


def sample(event, token="a"):
    return {"sample_token": token, **{key: event[key] for key in ("hits", "class", "instance")}}


def test_the_numbers_that_a_network_reads():
    event = hits([0.0, 0.01], [[100.0, -50.0, 330.0], [0.0, 10.0, -520.0]])
    event[:, 1] = torch.tensor([2.0, -2.5])
    found = HitPreprocessor((1.0, 2.0, 5.0)).prepare([event, event[:0]])
    assert found.points.coords.tolist() == [[0, 100, -25, 2], [1, 0, 5, 40]]
    expected = [[0, 2, 1, -0.5, 0.1], [float(np.log(2)), 2.5, 0, 0.1, 2]]
    assert found.points.feats.tolist() == [pytest.approx(row, abs=1e-6) for row in expected]
    assert found.points.batch_size == 4 and found.sizes == [2, 0]
    assert found.xyz[:, 2].tolist() == [330, 520] and found.energy.tolist() == pytest.approx([0, 0.01])


def test_hits_that_no_network_can_read():
    preprocessor = HitPreprocessor()
    for row, value, what in ((0, float("nan"), "nan"), (0, -1.0, "-1.0"), (5, float("inf"), "inf")):
        event = hits([1.0] * 3, [[0.0, 50.0, 330.0]] * 3)
        event[1, row] = value
        batch = {"inputs": {"hits": [event[:1], event]}, "samples": [{"sample_token": "a"}, {"sample_token": "b"}]}
        with pytest.raises(ValueError, match=f"hits of sample b must be finite with an energy >= 0, got .*{what}"):
            preprocessor(batch)
    with pytest.raises(ValueError, match=r"hits must be \(N, 9\) E, eta, .* got \(3, 4\)"):
        preprocessor.prepare([torch.zeros(3, 4)])
    with pytest.raises(ValueError, match="inputs must hold 'hits', got .'points'."):
        preprocessor({"inputs": {"points": []}})
    with pytest.raises(ValueError, match="voxel_size must be one positive number or three, got 0"):
        HitPreprocessor(0)


def test_classes_and_numbers_of_clusters():
    """The class with the most energy wins, the cluster with the most energy comes first, few hits are noise."""
    # Clusters at 0, 10, 20 and 30 in a space of one dimension; the last hit is far from all centres, and no centre.
    place = [0, 0, 0, 10, 10, 10, 20, 20, 30, 30, 30, 50]
    beta = [9, 0, 0, 9, 0, 0, 9, 0, 9, 0, 0, -9]
    label = [1, 2, 2, 2, 2, 1, 1, 1, 0, 1, 1, 1]
    energy = [5.0, 1, 2, 3, 3, 4, 9, 9, 9, 1, 1, 1]
    logits = 8.0 * nn.functional.one_hot(torch.tensor(label), 3)
    embedding = torch.tensor([beta, place]).float().T
    model = HitClusterer(HitPreprocessor(), Told(logits, embedding), ObjectCondensation(1))
    event = hits(energy, [[0.0, 50.0, 330.0]] * 12)
    (found,) = model(**model.data_preprocessor({"inputs": {"hits": [event]}}), mode="predict")
    # At 30 the centre is noise, so that one of the others, with beta 0.5, becomes it: two hits are too few.
    assert found.instances.tolist() == [1] * 3 + [0] * 3 + [-1] * 6
    assert found.labels.tolist() == [1] * 3 + [2] * 3 + [0] * 6
    assert found.scores[0] > 0.9 > 0.1 > found.scores[1]


def test_clusters_are_numbered_in_each_event_and_stay_in_it():
    place, count = torch.zeros(12), 6
    logits = torch.tensor([[0.0, 9, 0]]).expand(12, 3)
    model = HitClusterer(HitPreprocessor(), Told(logits, torch.stack([place + 1, place], 1)), ObjectCondensation(1))
    event = hits([1.0] * count, [[0.0, 50.0, 330.0]] * 3 + [[0.0, 50.0, -330.0]] * 3)
    batch = {"inputs": {"hits": [event, event[:0], event]}}
    found = model(**model.data_preprocessor(batch), mode="predict")
    assert [one.instances.tolist() for one in found] == [[0] * 3 + [1] * 3, [], [0] * 3 + [1] * 3]


@pytest.mark.parametrize("name", GROUPINGS)
def test_a_network_learns_an_event(name, device):
    """After some steps on one event its clusters and their classes are those of the truth, but for a few hits."""
    torch.manual_seed(0)
    grouping = GROUPINGS[name]
    backbone = CaloSPVCNN(5, 3, grouping.channels, width=0.125, dropout=0.0)
    model = HitClusterer(HitPreprocessor(4.0), backbone, grouping).to(device)
    event = made_event(np.random.default_rng(0), 3)
    batch = model.data_preprocessor(collate([sample(event)]))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        total = sum(model(**batch, mode="loss").values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    (found,) = model.eval()(**batch, mode="predict")
    found = found.to("cpu").numpy()
    matches = match_clusters(event["class"], event["instance"], found.labels, found.instances, np.ones(len(found)))
    assert matches.iou.tolist() == pytest.approx([1.0] * 3, abs=0.15) and len(matches.predicted.hits) == 3


@pytest.mark.parametrize("name", GROUPINGS)
def test_events_of_which_there_is_little(name):
    """No hits, one hit, all noise: a loss that trains, and a prediction for each hit."""
    grouping = GROUPINGS[name]
    model = HitClusterer(HitPreprocessor(4.0), CaloSPVCNN(5, 3, grouping.channels, width=0.125), grouping)
    event = made_event(np.random.default_rng(0), 2)
    noise = {**event, "class": event["class"] * 0, "instance": event["instance"] * 0 - 1}
    for kept in ([0], [1], [0, 1, 0], [40], [0, 0]):
        samples = [sample({key: value[:count] for key, value in noise.items()}) for count in kept]
        batch = model.data_preprocessor(collate(samples))
        losses = model(**batch, mode="loss")
        sum(losses.values()).backward()
        assert all(torch.isfinite(value) for value in losses.values())
        model.eval()
        assert [len(found) for found in model(**batch, mode="predict")] == kept
        model.train()


def test_truth_that_does_not_fit():
    model = HitClusterer(HitPreprocessor(4.0), CaloSPVCNN(5, 3, 3, width=0.125), ObjectCondensation(2))
    event = made_event(np.random.default_rng(0), 1)
    batch = model.data_preprocessor(collate([sample({**event, "class": event["class"][1:]}, "b")]))
    with pytest.raises(ValueError, match="sample b must have 'class' of 40 hits, got 39"):
        model(**batch, mode="loss")
    batch = model.data_preprocessor(collate([{"sample_token": "c", "hits": event["hits"]}]))
    with pytest.raises(ValueError, match="sample c must have 'class' of 40 hits, got none"):
        model(**batch, mode="loss")
    with pytest.raises(ValueError, match="mode must be 'tensor', 'loss' or 'predict', got 'train'"):
        model(**batch, mode="train")
    other = HitClusterer(HitPreprocessor(4.0), CaloSPVCNN(5, 3, 8, width=0.125), ObjectCondensation(2))
    with pytest.raises(ValueError, match=r"must have 3 classes and 3 channels of embedding, got \(3, 8\)"):
        other(**batch)
    with pytest.raises(ValueError, match="min_hits must be >= 1, got 0"):
        HitClusterer(HitPreprocessor(), nn.Identity(), ObjectCondensation(2), min_hits=0)


def test_what_is_said_of_an_event():
    found = HitClusters.all_noise(3)
    assert len(found) == 3 and found.labels.tolist() == [0] * 3 and found.instances.tolist() == [-1] * 3
    with pytest.raises(ValueError, match="must be .N,., got"):
        HitClusters(found.labels, found.instances[:2], found.scores)
    with pytest.raises(ValueError, match="labels must be integers, got torch.float32"):
        HitClusters(found.scores, found.instances, found.scores)
