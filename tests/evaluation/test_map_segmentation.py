# SPDX-License-Identifier: Apache-2.0
"""Map IoU at the best threshold against loops over cells; the metric as an evaluator runs it."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.evaluation import THRESHOLDS, MapMetric, count_cells, format_map_scores, map_scores
from pcperc.geometry import BEVGrid, MapPrediction
from tests import oracles_map as oracle
from tests.simulated_root import mark_simulated

GRID = BEVGrid((0.0, 3.0, 1.0), (0.0, 2.0, 1.0))
CLASSES = ("street", "line")
# On, between and beyond the thresholds.
probability = st.sampled_from([0.0, 0.3, 0.35, 0.37, 0.4, 0.45, 0.5, 0.51, 0.55, 0.6, 0.64, 0.65, 0.7, 1.0])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.tuples(st.booleans(), probability), min_size=12, max_size=12), min_size=1, max_size=3))
def test_scores_are_the_loops(samples):
    counts, by_class = 0, ([], [])
    for cells in samples:
        truth = np.array([cell[0] for cell in cells]).reshape(2, 3, 2)
        found = np.array([cell[1] for cell in cells]).reshape(2, 3, 2)
        counts = counts + count_cells(truth, found)
        for own, t, p in zip(by_class, truth, found, strict=True):
            own.append((t.ravel().tolist(), p.ravel().tolist()))
    scores = map_scores(counts, CLASSES)
    expected = [oracle.best_iou(own, THRESHOLDS) for own in by_class]
    for name, iou in zip(CLASSES, expected, strict=True):
        assert scores.get(f"map/{name}/IoU") == (None if iou is None else pytest.approx(iou))
    known = [iou for iou in expected if iou is not None]
    assert scores.get("map/mIoU") == (pytest.approx(sum(known) / len(known)) if known else None)


def test_each_class_has_its_own_best_threshold():
    """By hand: the street is best at 0.35, the line from 0.55 on; single precision counts 0.35 as reaching it."""
    truth = np.array([[[1, 1, 0, 0]], [[1, 0, 0, 0]]], bool)
    found = np.array([[[0.9, 0.35, 0.1, 0.2]], [[0.6, 0.5, 0.5, 0.1]]], np.float32)
    scores = map_scores(count_cells(truth, found), CLASSES)
    assert scores["map/street/IoU"] == 1.0 and scores["map/street/IoU@0.40"] == 0.5
    assert scores["map/line/IoU"] == 1.0 and scores["map/line/IoU@0.50"] == pytest.approx(1 / 3)
    assert scores["map/mIoU"] == 1.0


def batch(*truths):
    samples = [
        {"sample_token": f"t{k}", "map_masks": torch.as_tensor(truth), "map_grid": GRID}
        for k, truth in enumerate(truths)
    ]
    return {"inputs": {}, "samples": samples}


def scored(metric, truths, predictions, root=""):
    metric.dataset_meta = {"map_classes": CLASSES, "version": "v1.0-sim", "split": "sim_val", "root": str(root)}
    metric.process(batch(*truths), predictions)
    return metric.evaluate(len(truths))


def some_truth(seed=0):
    return np.random.default_rng(seed).random((2, 3, 2)) < 0.5


@pytest.mark.parametrize("by_task", [False, True])
def test_the_truth_scores_one(tmp_path, by_task):
    truths = [some_truth(0), some_truth(1)]
    found = [MapPrediction(torch.from_numpy(truth).float(), GRID) for truth in truths]
    results = [{"object": None, "map": one} for one in found] if by_task else found
    scores = scored(MapMetric(output_dir=tmp_path), truths, results, mark_simulated(tmp_path))
    assert scores["map/mIoU"] == 1.0 and set(scores.values()) == {1.0} and len(scores) == 1 + 2 * 8
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["scores"] == scores and "(simulated data)" in written["title"] and written["num_samples"] == 2
    text = format_map_scores(scores, CLASSES, title=written["title"])
    assert "street" in text and "mIoU: 1.0000" in text


def test_half_precision_and_repeated_samples():
    """bfloat16 is compared as what it is; a sample that a sampler repeats counts once."""
    truth = some_truth()
    values = torch.where(torch.from_numpy(truth), 0.61, 0.2).bfloat16()
    metric = MapMetric()
    metric.dataset_meta = {"map_classes": CLASSES}
    metric.process(batch(truth), [MapPrediction(values, GRID)])
    metric.process(batch(truth), [MapPrediction(values * 0, GRID)])
    assert metric.evaluate(2)["map/mIoU"] == 0.0  # the later one of the same token


def test_a_class_that_is_nowhere_is_left_out_of_the_mean():
    truth = np.zeros((2, 3, 2), bool)
    truth[0, 1] = True
    scores = map_scores(count_cells(truth, truth.astype(np.float32)), CLASSES)
    assert scores["map/mIoU"] == 1.0 and "map/line/IoU" not in scores
    assert "-" in format_map_scores(scores, CLASSES, title="t").split("line")[1]
    invented = truth.astype(np.float32)
    invented[1, 0, 0] = 1
    assert map_scores(count_cells(truth, invented), CLASSES)["map/mIoU"] == 0.5  # said, but not there: 0


def test_wrong_input_is_named():
    truth = some_truth()
    with pytest.raises(ValueError, match=r"truth must be \(C, X, Y\) bool and probabilities of that shape, got"):
        count_cells(truth.astype(np.int64), truth.astype(np.float32))
    for bad in (np.nan, 1.5, -0.1):
        with pytest.raises(ValueError, match=r"probabilities must be in \[0, 1\]"):
            count_cells(truth, np.full(truth.shape, bad))
    prediction = MapPrediction(torch.zeros(2, 3, 2), GRID)
    metric = MapMetric()
    without = {"inputs": {}, "samples": [{"sample_token": "t7"}]}
    with pytest.raises(ValueError, match="MapMetric: sample t7 must have map_masks to be scored"):
        metric.process(without, [prediction])
    with pytest.raises(ValueError, match="data_samples must have 1 entries, got 2"):
        metric.process(batch(truth), [prediction] * 2)
    with pytest.raises(ValueError, match=r"must have a head 'map', it has \['object'\]"):
        metric.process(batch(truth), [{"object": None}])
    metric.process(batch(truth), [prediction])
    with pytest.raises(ValueError, match="map_classes must be in the metainfo"):
        metric.evaluate(1)
    with pytest.raises(ValueError, match=r"MapPrediction: probabilities must be \(C, 3, 2\), got \(2, 2, 3\)"):
        MapPrediction(torch.zeros(2, 2, 3), GRID)
