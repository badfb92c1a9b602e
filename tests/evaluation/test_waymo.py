# SPDX-License-Identifier: Apache-2.0
"""Waymo's AP and APH: numbers of Waymo's own program, a slow reference, hand-computed cases, and the metric."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.evaluation.waymo import WaymoMetric
from pcperc.evaluation.waymo_scores import LEVELS, MIN_OVERLAP, Truth, waymo_scores
from pcperc.geometry import Detections
from tests import oracles_waymo

CLASSES = tuple(MIN_OVERLAP)
SIZES = ((4.5, 2.0, 1.6), (0.9, 0.8, 1.7), (1.8, 0.7, 1.6))


class Numbers:
    """Numbers in [0, 1) that are the same with every version of every library."""

    def __init__(self):
        self.state = 1

    def __call__(self, low=0.0, high=1.0):
        self.state = (1_103_515_245 * self.state + 12_345) % 2**31
        return low + (high - low) * self.state / 2**31


def made_up_frames(count=12):
    """(boxes (K, 7), labels, levels, detected boxes (P, 7), labels, scores) of frames: true boxes some of which nearly
    coincide, each found up to three times, some turned round, and things that are not there."""
    draw, frames = Numbers(), []
    for _ in range(count):
        truth, found = [], []
        for label, size in enumerate(SIZES):
            boxes = []
            for number in range(int(draw(0, 8))):
                place = [draw(-60, 60), draw(-60, 60), draw(-1, 1), *(s * draw(0.9, 1.1) for s in size)]
                if number == 1:
                    place = [v + shift for v, shift in zip(boxes[0], (0.1, 0.05, 0, 0, 0, 0), strict=False)]
                boxes.append([*place, draw(-math.pi, math.pi)])
                truth.append((boxes[-1], label, 1 + int(draw(0, 2))))
                for _ in range(int(draw(0, 4))):
                    near = [v + draw(-0.08, 0.08) * s for v, s in zip(boxes[-1], size, strict=False)]
                    turned = boxes[-1][6] + draw(-0.3, 0.3) + (math.pi if draw() < 0.2 else 0)
                    sizes = [v * draw(0.92, 1.08) for v in boxes[-1][3:6]]
                    found.append(([*near, *sizes, turned], label, draw() ** 0.5))
            for _ in range(int(draw(0, 4))):
                found.append(([draw(-60, 60), draw(-60, 60), 0.0, *size, 0.0], label, draw() ** 2))
        columns = [np.array(column) for rows in (truth, found) for column in zip(*rows, strict=True)]
        columns[0], columns[3], columns[5] = (columns[i].astype(np.float32) for i in (0, 3, 5))
        frames.append(columns)
    return frames


def scores_of(frames, classes=CLASSES):
    truth = [Truth(*columns[:3]) for columns in frames]
    found = [Detections(np.pad(c[3], ((0, 0), (0, 2))), c[5], c[4]) for c in frames]
    return waymo_scores(truth, found, classes=classes)


# Of the frames above by detection_metrics of waymo-open-dataset 1.6.7, configured as its
# compute_detection_metrics_main: AP and APH at level 1, AP and APH at level 2; over all and for each range.
OF_WAYMO = {
    "VEHICLE": {
        "": (0.4618329, 0.3932680, 0.3389871, 0.2856991),
        "0-30m/": (0.2602041, 0.2459558, 0.2103175, 0.1971315),
        "30-50m/": (0.4143700, 0.3719092, 0.2892032, 0.2528395),
        "50m+/": (0.7767348, 0.5967324, 0.5355902, 0.4184157),
    },
    "PEDESTRIAN": {
        "": (0.8321283, 0.5565566, 0.6868826, 0.4678609),
        "0-30m/": (1.0000001, 0.8510829, 0.9472223, 0.7852755),
        "30-50m/": (0.8010481, 0.7195122, 0.5394807, 0.4655453),
        "50m+/": (0.7362738, 0.3844003, 0.6782672, 0.3586584),
    },
    "CYCLIST": {
        "": (0.6868948, 0.5655549, 0.6280490, 0.5109385),
        "0-30m/": (0.8883334, 0.7122612, 0.8020456, 0.6120072),
        "30-50m/": (0.6672871, 0.5355328, 0.5878124, 0.4600892),
        "50m+/": (0.5753959, 0.5524828, 0.5723053, 0.5494826),
    },
}


@pytest.mark.parametrize("name", CLASSES)
def test_scores_are_those_of_waymos_program(name):
    ours = scores_of(made_up_frames())[name]
    for part, values in OF_WAYMO[name].items():
        kinds = [f"{part}L{level}/{kind}" for level in LEVELS for kind in ("AP", "APH")]
        assert [ours[kind] for kind in kinds] == pytest.approx(values, abs=1e-6), part


def random_frame(rng):
    truth = np.column_stack(
        [rng.uniform(-1, 1, (5, 2)), np.zeros((5, 1)), np.tile([2, 1, 1], (5, 1)), rng.uniform(-3, 3, 5)]
    )
    near = truth[rng.integers(0, 5, 6)] + rng.normal(0, 0.1, (6, 7)) * [1, 1, 1, 1, 1, 1, 3]
    count, made = rng.integers(0, 5), rng.integers(0, 6)
    scores = rng.choice([0.1, 0.25, 0.5, 0.505, 0.9], made).astype(np.float32)
    return truth[:count], rng.integers(1, 3, count), near[:made], scores


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_scores_equal_the_slow_reference(seed):
    rng = np.random.default_rng(seed)
    frames = [random_frame(rng) for _ in range(rng.integers(1, 4))]
    truth = [Truth(t, np.zeros(len(t), np.int64), level) for t, level, _, _ in frames]
    found = [Detections(np.pad(b, ((0, 0), (0, 2))), s, np.zeros(len(b), np.int64)) for _, _, b, s in frames]
    ours = waymo_scores(truth, found, classes=["PEDESTRIAN"])["PEDESTRIAN"]
    for level in LEVELS:
        for kind in ("AP", "APH"):
            slow = oracles_waymo.average_precision(
                frames, overlap=MIN_OVERLAP["PEDESTRIAN"], level=level, by_heading=kind == "APH"
            )
            assert ours[f"L{level}/{kind}"] == pytest.approx(slow, abs=1e-9, nan_ok=True), (level, kind)


def score_boxes(made, scores, levels=(1, 1, 2)):
    """Three cars 20 m apart, along x from the vehicle on; the detections given."""
    box = np.array([[20.0 * i, 0, 0, 4, 2, 1.5, 0] for i in range(3)])
    truth = [Truth(box, np.zeros(3, np.int64), np.array(levels))]
    found = [Detections(np.pad(made, ((0, 0), (0, 2))), np.float32(scores), np.zeros(len(made), np.int64))]
    return waymo_scores(truth, found, classes=["VEHICLE"])["VEHICLE"]


def test_hand_computed_scores():
    """The first car is found, then nothing, then the last car, which is hard, turned round."""
    made = np.array([[0.0, 0, 0, 4, 2, 1.5, 0], [90, 0, 0, 4, 2, 1.5, 0], [40, 0, 0, 4, 2, 1.5, np.pi]])
    scores = score_boxes(made, [0.9, 0.8, 0.7])
    # Recalls 1/3 and 2/3 at precisions 1 and 2/3; the gap is filled with the lower one but for its first 1/3 - 6 / 20.
    last = (1 / 3 - 6 / 20) * (1 + 2 / 3) / 2
    assert scores["L2/AP"] == pytest.approx(1 / 3 + 6 / 20 * 2 / 3 + last)
    # A hit that is turned round counts as one that was found, and has no part in precision.
    last = (1 / 3 - 6 / 20) * (1 + 1 / 3) / 2
    assert scores["L2/APH"] == pytest.approx(1 / 3 + 6 / 20 * 1 / 3 + last)
    # Level 1: two cars are found of the three that are easy or found.
    assert scores["L1/AP"] == pytest.approx(1 / 2 + 3 / 20 * 2 / 3 + (2 / 3 - 1 / 2 - 3 / 20) * (1 + 2 / 3) / 2)
    assert scores["0-30m/L1/AP"] == pytest.approx(0.5), "two easy cars, one of them found"
    assert scores["30-50m/L2/AP"] == 1 and scores["30-50m/L2/APH"] == pytest.approx(0, abs=1e-9)
    assert math.isnan(scores["30-50m/L1/AP"]) and math.isnan(scores["50m+/L2/AP"])


def test_the_better_of_two_finds_and_detections_below_zero():
    """Of two detections of a car the one that overlaps it more is the hit; a score below 0 reaches no cutoff."""
    made = np.array([[0.2, 0, 0, 4, 2, 1.5, np.pi], [0.1, 0, 0, 4, 2, 1.5, 0]])
    assert score_boxes(made, [0.9, 0.5], levels=(1, 2, 2))["0-30m/L1/APH"] == pytest.approx(0.5)
    scores = score_boxes(made[1:], [-0.1])
    assert scores["L1/AP"] == scores["L2/APH"] == 0


@pytest.mark.parametrize(("name", "long", "score"), [("VEHICLE", 5.6, 1), ("VEHICLE", 6.0, 0), ("CYCLIST", 7.6, 1)])
def test_how_much_a_hit_must_overlap(name, long, score):
    """Boxes of 4 m in one that is ``long``: 0.71, 0.67 and 0.53 of its volume; 0.7 are asked of vehicles, else 0.5."""
    truth = [Truth(np.array([[0.0, 0, 0, 4, 2, 1.5, 3.1]]), np.zeros(1, np.int64), np.ones(1, np.int64))]
    made = np.array([[0.0, 0, 0, long, 2, 1.5, 3.1 - 2 * np.pi, 0, 0]])  # the same heading, written otherwise
    found = [Detections(made, np.ones(1, np.float32), np.zeros(1, np.int64))]
    scores = waymo_scores(truth, found, classes=[name])[name]
    assert scores["L1/AP"] == scores["L1/APH"] == pytest.approx(score)


def test_bad_input():
    frames = made_up_frames(2)
    with pytest.raises(ValueError, match="classes must be of VEHICLE, PEDESTRIAN, CYCLIST, got 'SIGN'"):
        scores_of(frames, ["SIGN"])
    with pytest.raises(ValueError, match="found must be of the 2 frames of truth, at least 1, got 1"):
        waymo_scores([Truth(*columns[:3]) for columns in frames], [None], classes=CLASSES)
    metric = WaymoMetric()
    sample = {"sample_token": "segment/7"}
    with pytest.raises(ValueError, match="sample segment/7 must have boxes to be scored"):
        metric.process({"samples": [sample]}, [None])
    sample |= {"boxes": torch.zeros(0, 9), "labels": torch.zeros(0), "difficulty": torch.zeros(0)}
    with pytest.raises(ValueError, match="sample segment/7: boxes and scores must be finite"):
        metric.process(
            {"samples": [sample]}, [Detections(torch.ones(1, 9), torch.tensor([math.nan]), torch.tensor([0]))]
        )
