# SPDX-License-Identifier: Apache-2.0
"""Groupings by their options, units and endcaps: losses and clusters of a model against plain loops."""

import numpy as np
import pytest
import torch
from torch import nn

from pcperc.datasets import collate
from pcperc.models.calorimeter import (
    CentreOffset,
    DiscriminativeEmbedding,
    HitClusterer,
    HitPreprocessor,
    ObjectCondensation,
)
from tests import oracles_calorimeter as oracle
from tests.models.calorimeter.test_clusterer import Told, hits, sample


def test_losses_of_the_groupings_have_their_weights_and_units():
    """Beta is the sigmoid of the first channel; offsets are metres where places are cm."""
    rng = np.random.default_rng(0)
    x, xyz = rng.normal(size=(9, 3)), rng.normal(size=(9, 3)) * 100
    objects = [0, 1, -1, 0, 1, 2, -1, 0, 2]
    arguments = [torch.tensor(x), torch.tensor(xyz), torch.tensor(objects)]
    options = {"weight": 0.5, "q_min": 0.7, "noise_weight": 0.3}
    found = ObjectCondensation(2, **options).loss(*arguments)
    expected = np.array(oracle.condensation(1 / (1 + np.exp(-x[:, 0])), x[:, 1:], objects, 0.7, 0.3))
    assert list(found) == ["loss_attraction", "loss_repulsion", "loss_beta"]
    assert [float(value) for value in found.values()] == pytest.approx(0.5 * expected)
    found = DiscriminativeEmbedding(3, weight=0.5, pull_margin=0.4, push_margin=1.2).loss(*arguments)
    expected = np.array(oracle.discriminative(x, objects, 0.4, 1.2))
    assert [float(found[f"loss_{name}"]) for name in ("pull", "push")] == pytest.approx(0.5 * expected)
    found = CentreOffset(weight=0.2).loss(*arguments)
    assert float(found["loss_offset"]) == pytest.approx(0.2 * oracle.offset(x, xyz / 100, objects))


def crowd(rng, count=48):
    """Hits of both endcaps in any order, in space within 30 cm, of any class; four particles, and noise."""
    xyz = np.column_stack([rng.uniform(50, 80, (count, 2)), rng.choice([-1, 1], count) * rng.uniform(330, 360, count)])
    instance = rng.integers(-1, 4, count)
    event = hits(rng.uniform(0.1, 9, count).tolist(), xyz.tolist()).numpy()
    return {"hits": event, "class": np.where(instance < 0, 0, 1 + instance % 2), "instance": instance}


def items_of(events):
    """The rows of each endcap of each event, among the hits of all of them."""
    side = np.concatenate([2 * i + (event["hits"][:, 7] < 0) for i, event in enumerate(events)])
    return side, [np.flatnonzero(side == item) for item in np.unique(side)]


def test_the_loss_is_the_mean_over_the_endcaps_that_have_hits():
    """Endcaps mixed in an event, one event without hits; each loss of the published ones against its loop."""
    rng = np.random.default_rng(0)
    events = [crowd(rng), {key: values[:0] for key, values in crowd(rng).items()}, crowd(rng, 20)]
    x = rng.normal(size=(68, 4))
    _, items = items_of(events)
    xyz = np.concatenate([event["hits"][:, 5:8] for event in events]).astype(np.float64)
    xyz[:, 2] = np.abs(xyz[:, 2])
    instance = np.concatenate([event["instance"] for event in events])
    batch = collate([sample(event, str(i)) for i, event in enumerate(events)])

    def losses(grouping):
        told = Told(torch.zeros(68, 3), torch.tensor(x[:, : grouping.channels]))
        model = HitClusterer(HitPreprocessor(), told, grouping)
        found = model(**model.data_preprocessor(batch), mode="loss")
        return [float(value) for name, value in found.items() if name != "loss_cross_entropy"]

    def expected(loop):
        numbered = [np.unique(instance[rows].clip(-1), return_inverse=True)[1] - 1 for rows in items]
        assert all((one < 0).any() for one in numbered)
        return np.mean([loop(rows, objects.tolist()) for rows, objects in zip(items, numbered, strict=True)], axis=0)

    beta = 1 / (1 + np.exp(-x[:, 0]))
    assert losses(ObjectCondensation(3)) == pytest.approx(
        expected(lambda rows, objects: oracle.condensation(beta[rows], x[rows, 1:], objects, 1.0, 0.1))
    )
    assert losses(DiscriminativeEmbedding(4)) == pytest.approx(
        expected(lambda rows, objects: oracle.discriminative(x[rows], objects, 0.5, 1.5))
    )
    offset = expected(lambda rows, objects: oracle.offset(x[rows, :3], xyz[rows] / 100, objects))
    assert losses(CentreOffset(weight=1.0)) == [pytest.approx(offset, rel=1e-5)]


@pytest.mark.parametrize("width", [0.3, 0.9])
@pytest.mark.parametrize("name", ["condensation", "embedding", "offset"])
def test_groupings_cluster_in_their_own_space(name, width):
    """By their own width and least beta; directions have length 1, offsets are metres; no two classes or endcaps meet.

    Condensation alone lets classes meet. Clusters of the model are those of the loops, less the ones of few hits.
    """
    rng = np.random.default_rng(3)
    events = [crowd(rng), crowd(rng, 60)]
    side, items = items_of(events)
    label = rng.integers(0, 3, 108)
    x = rng.normal(size=(108, 4)) * (1.0 if name == "embedding" else 0.2)
    xyz = np.concatenate([event["hits"][:, 5:8] for event in events]).astype(np.float64)
    xyz[:, 2] = np.abs(xyz[:, 2])
    beta = 1 / (1 + np.exp(-x[:, 0]))
    least = float(np.median(beta))
    grouping, space = {
        "condensation": (ObjectCondensation(3, radius=width, min_beta=least), x[:, 1:]),
        "embedding": (DiscriminativeEmbedding(4, bandwidth=width), x / np.linalg.norm(x, axis=1, keepdims=True)),
        "offset": (CentreOffset(bandwidth=40 * width), xyz + 100 * x[:, :3]),
    }[name]
    expected = np.full(108, -1)
    for rows in items:
        for kind in ((1, 2),) if name == "condensation" else ((1,), (2,)):
            own = rows[np.isin(label[rows], kind)]
            if name == "condensation":
                found = oracle.condense(space[own], beta[own], np.zeros(len(own)), width, least)
            else:
                found = oracle.mean_shift(space[own], grouping.bandwidth)
            number = expected.max() + 1
            expected[own] = np.where(found < 0, -1, found + number)
    logits = 8.0 * nn.functional.one_hot(torch.tensor(label), 3)
    model = HitClusterer(HitPreprocessor(), Told(logits, torch.tensor(x[:, : grouping.channels])), grouping, min_hits=2)
    found = model(**model.data_preprocessor(collate([sample(event) for event in events])), mode="predict")
    sizes = np.bincount(expected[expected >= 0], minlength=expected.max() + 1)
    expected = np.where((expected >= 0) & (sizes[expected] >= 2), expected, -1)
    start = 0
    for one in found:
        assert oracle.same_partition(one.instances, expected[start : start + len(one)])
        start += len(one)
    assert 4 <= len(np.unique(expected[expected >= 0])) < 60


@pytest.mark.parametrize(
    "grouping, options, message",
    [
        (ObjectCondensation, {"dims": 0}, "dims must be from 1 to 128, got 0"),
        (ObjectCondensation, {"dims": 129}, "dims must be from 1 to 128, got 129"),
        (ObjectCondensation, {"radius": -1}, "radius must be finite and > 0, got -1"),
        (ObjectCondensation, {"radius": np.nan}, "radius must be finite and > 0, got nan"),
        (ObjectCondensation, {"min_beta": np.nan}, r"min_beta must be in \[0, 1\), got nan"),
        (ObjectCondensation, {"min_beta": 1}, r"min_beta must be in \[0, 1\), got 1"),
        (ObjectCondensation, {"weight": -1}, "weight must be finite and >= 0, got -1"),
        (ObjectCondensation, {"q_min": -3}, "q_min must be finite and >= 0, got -3"),
        (ObjectCondensation, {"noise_weight": np.inf}, "noise_weight must be finite and >= 0, got inf"),
        (DiscriminativeEmbedding, {"dims": 0}, "dims must be >= 1, got 0"),
        (DiscriminativeEmbedding, {"weight": -0.1}, "weight must be finite and >= 0, got -0.1"),
        (DiscriminativeEmbedding, {"bandwidth": 0}, "bandwidth must be finite and > 0, got 0"),
        (DiscriminativeEmbedding, {"pull_margin": -1}, "pull_margin must be finite and >= 0, got -1"),
        (DiscriminativeEmbedding, {"push_margin": np.nan}, "push_margin must be finite and >= 0, got nan"),
        (CentreOffset, {"weight": np.nan}, "weight must be finite and >= 0, got nan"),
        (CentreOffset, {"bandwidth": np.inf}, "bandwidth must be finite and > 0, got inf"),
    ],
)
def test_numbers_out_of_range(grouping, options, message):
    with pytest.raises(ValueError, match=f"^{grouping.__name__}: {message}$"):
        grouping(**options)


def test_what_is_no_number_and_the_ends_of_ranges():
    with pytest.raises(TypeError, match="^CentreOffset: bandwidth must be a number, got '5'$"):
        CentreOffset(bandwidth="5")
    with pytest.raises(TypeError, match="^ObjectCondensation: dims must be a whole number, got 2.5$"):
        ObjectCondensation(2.5)
    ObjectCondensation(128, weight=0, q_min=0, noise_weight=0, min_beta=0, radius=np.float32(1e-3))
    DiscriminativeEmbedding(np.int64(1), pull_margin=0, push_margin=0)
