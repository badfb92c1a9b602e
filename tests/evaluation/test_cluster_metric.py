# SPDX-License-Identifier: Apache-2.0
"""The metric of calorimeter clusters: perfect and empty predictions, files, and what does not fit."""

import json
import math

import numpy as np
import pytest
import torch

from pcperc.datasets import collate
from pcperc.evaluation import CalorimeterMetric, count_event, curve, left_out, read_cluster_table
from pcperc.geometry import HitClusters
from tests.calorimeter_events import made_event
from tests.simulated_root import mark_simulated


def batch(*showers, **changes):
    rng = np.random.default_rng(0)
    return collate([{"sample_token": str(i), **made_event(rng, count), **changes} for i, count in enumerate(showers)])


def perfect(data):
    return [HitClusters(s["class"], s["instance"], torch.ones(len(s["class"]))) for s in data["samples"]]


def score(data, found, root="", **options):
    metric = CalorimeterMetric(**options)
    metric.dataset_meta = {"split": "sim_test", "root": str(root)}
    metric.process(data, found)
    return metric.evaluate(len(found))


def test_what_is_right_scores_one(tmp_path):
    data = batch(3, 0, 2)
    scores = score(data, perfect(data), mark_simulated(tmp_path), output_dir=tmp_path)
    assert {scores[f"{variant}/PQ"] for variant in ("hits", "energy", "weighted", "hits/event")} == {1.0}
    assert (scores["efficiency"], scores["fake_rate"]) == (1.0, 0.0)
    table = read_cluster_table(tmp_path / "cluster_table.npz")
    assert table.found.all() and table.response == pytest.approx(np.ones(5)) and not table.fake.any()
    written = json.loads((tmp_path / "cluster_scores.json").read_text())
    assert "3 events sim_test (simulated, GFlash)" in written["title"] and written["scores"] == scores
    assert sum(written["curves"]["energy"]["showers"]) == 5
    assert None in written["curves"]["energy"]["response"]  # a bin without a shower has no number


def test_curves_and_fake_rate_are_of_the_table(tmp_path):
    """Distances between centres weighted by energy, in cm; the fake rate is a part of the predicted clusters."""
    data = batch(3)
    (sample,), (hits,) = data["samples"], data["inputs"]["hits"]
    (clusters,) = perfect(data)
    first, second = ((clusters.instances == 0).nonzero().squeeze(1), (clusters.instances == 1).nonzero().squeeze(1))
    instances = clusters.instances.clone()
    for number, rows in enumerate(first.split(7)):  # three pieces of the first shower, of which none is half of it
        instances[rows] = 10 + number
    hits[first, 0] = 1.0
    labels = clusters.labels.clone()
    labels[second], instances[second] = 0, -1
    scores = score(data, [HitClusters(labels, instances, clusters.scores)], output_dir=tmp_path)
    assert (scores["efficiency"], scores["fake_rate"]) == (pytest.approx(1 / 3), pytest.approx(3 / 4))
    table = read_cluster_table(tmp_path / "cluster_table.npz")
    # Rows are by class, then by instance.
    order = sorted(range(3), key=lambda k: (int(sample["class"][sample["instance"] == k][0]), k))
    xyz, energy = hits[:, 5:8].double().numpy(), hits[:, 0].double().numpy()
    centres = [np.average(xyz[sample["instance"] == k], axis=0, weights=energy[sample["instance"] == k]) for k in order]
    nearest = [min(math.dist(a, b) for j, b in enumerate(centres) if i != j) for i, a in enumerate(centres)]
    assert table.nearest == pytest.approx(nearest) and table.energy[order.index(0)] == pytest.approx(20)
    written = json.loads((tmp_path / "cluster_scores.json").read_text())["curves"]
    for against, edges in (("energy", [1, 3, 10, 20, 40, 80, 200]), ("nearest", [0, 5, 10, 20, 40, 80, 160])):
        assert written[against]["edges"] == edges
        values = curve(table, edges, against=against)
        for name in values._fields:
            ours = [math.nan if value is None else value for value in written[against][name]]
            assert ours == pytest.approx(getattr(values, name).tolist(), nan_ok=True)
        assert written[against]["left_out"] == left_out(table, edges, against=against)._asdict()


def test_showers_that_no_curve_has_are_counted(tmp_path):
    """Two showers that are alone in their events, one of 400 GeV, and an event of noise."""
    data = batch(1, 1, 0)
    hits, shower = data["inputs"]["hits"][1], data["samples"][1]["instance"] == 0
    hits[:, 0] = 0.01
    hits[shower, 0] = 20.0
    score(data, perfect(data), output_dir=tmp_path)
    written = json.loads((tmp_path / "cluster_scores.json").read_text())["curves"]
    clusters = {"clusters": 1, "all_clusters": 2}
    assert written["energy"]["left_out"] == {"showers": 1, "all_showers": 2, "lone": 0, **clusters}
    assert written["nearest"]["left_out"] == {"showers": 2, "all_showers": 2, "lone": 2, **clusters, "clusters": 2}


def test_scores_are_those_of_the_events():
    """Wrong classes, wrong clusters and nothing at all, against the counts of the pure function."""
    data = batch(3, 2)
    rng = np.random.default_rng(1)
    found = []
    for sample in data["samples"]:
        count = len(sample["class"])
        instances = torch.where(torch.tensor(rng.random(count) < 0.3), -1, sample["instance"])
        found.append(HitClusters(sample["class"] * (instances >= 0), instances, torch.ones(count)))
    scores = score(data, found)
    counts = 0
    for sample, clusters, hits in zip(data["samples"], found, data["inputs"]["hits"], strict=True):
        partition = (sample["class"], sample["instance"], clusters.labels, clusters.instances, hits[:, 0])
        counts = counts + count_event(*(values.numpy() for values in partition), num_classes=3)
    iou, tp, fp, fn = counts[0, 2]
    assert scores["hits/hadronic/PQ"] == pytest.approx(iou / (tp + fp / 2 + fn / 2)) and 0 < iou < tp
    nothing = score(data, [HitClusters.all_noise(len(f)) for f in found])
    assert nothing["hits/PQ"] == nothing["efficiency"] == 0 and "fake_rate" not in nothing


def test_efficiency_and_fake_rate_are_by_energy():
    """A cluster of one hit out of 20 that has all but a little of the shower's energy is no match by hits."""
    data = batch(1)
    shower = data["samples"][0]["instance"] == 0
    hits = data["inputs"]["hits"][0]
    hits[:, 0] = 0.01
    first = torch.zeros_like(shower)
    first[shower.nonzero()[0]] = True
    hits[first, 0] = 10.0
    labels = torch.where(first, data["samples"][0]["class"], 0)
    scores = score(data, [HitClusters(labels, torch.where(first, 0, -1), torch.ones(len(labels)))])
    assert (scores["efficiency"], scores["fake_rate"], scores["hits/PQ"], scores["energy/RQ"]) == (1, 0, 0, 1)


def test_events_of_noise_have_no_score():
    data = batch(0)
    assert score(data, [HitClusters.all_noise(20)]) == {}


def test_messages():
    data = batch(2)
    with pytest.raises(ValueError, match="data_samples must have 1 entries, got 0"):
        CalorimeterMetric().process(data, [])
    with pytest.raises(ValueError, match=r"sample 0 must have class, instance and prediction of 60 hits, got .*3\]"):
        score(data, [HitClusters.all_noise(3)])
    del data["samples"][0]["class"]
    with pytest.raises(ValueError, match="sample 0 must have 'class' to be scored, but has none"):
        score(data, [HitClusters.all_noise(60)])


def test_classes_beside_each_other(tmp_path):
    """One electromagnetic shower of two is found, of hadronic ones both: in the scores, the curves and the table."""
    data = batch(3, 1)
    found = perfect(data)
    kinds = [sample["class"][sample["instance"] == 0][0].item() for sample in data["samples"]]
    assert kinds == [1, 1]  # and of the first event's others, one is hadronic
    lost = data["samples"][0]["instance"] == 0
    first = found[0]
    found[0] = HitClusters(first.labels * ~lost, torch.where(lost, -1, first.instances), first.scores)
    scores = score(data, found, output_dir=tmp_path)
    assert [scores[f"efficiency{name}"] for name in ("", "/electromagnetic", "/hadronic")] == [0.75, 2 / 3, 1]
    assert [scores[f"fake_rate{name}"] for name in ("", "/electromagnetic", "/hadronic")] == [0, 0, 0]
    table = read_cluster_table(tmp_path / "cluster_table.npz")
    assert table.label.tolist() == [1, 1, 2, 1] and table.event.tolist() == ["0", "0", "0", "1"]
    assert table.fake_label.tolist() == [1, 2, 1] and table.fake_event.tolist() == ["0", "0", "1"]
    written = json.loads((tmp_path / "cluster_scores.json").read_text())["curves_by_class"]
    assert list(written) == ["electromagnetic", "hadronic"]
    for name, part in table.by_class(["noise", *written]).items():
        values = curve(part, written[name]["energy"]["edges"]).showers
        assert written[name]["energy"]["showers"] == values.tolist()
        assert written[name]["energy"]["left_out"]["all_showers"] == len(part.label)


def test_a_table_of_other_columns_is_named(tmp_path):
    score(batch(1), perfect(batch(1)), output_dir=tmp_path)
    with np.load(tmp_path / "cluster_table.npz") as file:
        np.savez(tmp_path / "old.npz", **{name: file[name] for name in file.files if "event" not in name})
    with pytest.raises(ValueError, match=r"old.npz must have energy, .*, but lacks \['event', 'fake_event'\]"):
        read_cluster_table(tmp_path / "old.npz")
