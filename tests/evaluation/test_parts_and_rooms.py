# SPDX-License-Identifier: Apache-2.0
"""mIoU of parts and votes of rooms against their definitions, and the metrics that gather them."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.datasets import ScanNet
from pcperc.datasets.shapenet_part_labels import CATEGORIES, CLASSES, PARTS, SYNSETS
from pcperc.evaluation import RoomVotes, S3DISMetric, ShapeNetPartMetric, format_part_scores, part_scores, shape_iou
from pcperc.geometry import PointLabels
from tests import oracles_parts as oracle
from tests.simulated_root import mark_simulated

CATEGORY = st.sampled_from(["Airplane", "Cap", "Motorbike"])


@st.composite
def shapes(draw):
    """A category with truth and predictions, some of which belong to other categories."""
    category = draw(CATEGORY)
    count = draw(st.integers(0, 30))
    truth = draw(st.lists(st.sampled_from([*PARTS[category], 255]), min_size=count, max_size=count))
    said = draw(st.lists(st.sampled_from([*PARTS[category], 0, 49, 255]), min_size=count, max_size=count))
    return category, np.array(truth, np.int64), np.array(said, np.int64)


@settings(max_examples=60, deadline=None)
@given(st.lists(shapes(), min_size=1, max_size=5))
def test_scores_of_parts_are_those_of_the_definition(found):
    ious, expected = {category: [] for category in CATEGORIES}, []
    for category, truth, predicted in found:
        exact = oracle.shape_iou(truth.tolist(), predicted.tolist(), PARTS[category])
        value = shape_iou(truth, predicted, parts=PARTS[category])
        assert value == pytest.approx(float(exact), abs=1e-12)
        ious[category].append(value)
        expected.append((category, exact))
    instance, by_category = oracle.mean_of_shapes_and_of_categories(expected)
    scores = part_scores(ious)
    assert scores["instance_mIoU"] == pytest.approx(float(instance), abs=1e-12)
    assert scores["class_mIoU"] == pytest.approx(float(by_category), abs=1e-12)
    assert set(scores) == {"instance_mIoU", "class_mIoU", *(f"{category}/mIoU" for category, _ in expected)}


def test_parts_by_hand():
    # A cap of panel (6) and peak (7): 3 of 4 panel points right, the peak given one point too many.
    truth, predicted = np.array([6, 6, 6, 6, 7, 7]), np.array([6, 6, 6, 7, 7, 7])
    assert shape_iou(truth, predicted, parts=PARTS["Cap"]) == pytest.approx((3 / 4 + 2 / 3) / 2)
    # A shape that lacks a part, which was not given either: that part counts as 1.
    assert shape_iou(np.array([6, 6]), np.array([6, 6]), parts=PARTS["Cap"]) == 1
    assert shape_iou(np.array([6, 6]), np.array([6, 7]), parts=PARTS["Cap"]) == pytest.approx(0.25)
    text = format_part_scores({"Cap": [0.5], "Mug": []}, title="by hand")
    assert "0.500" in text and "Mug" in text
    assert part_scores({"Cap": []}) == {}


def test_the_fifty_parts():
    assert len(CLASSES) == 50 and sorted(part for parts in PARTS.values() for part in parts) == list(range(50))
    assert CATEGORIES == tuple(sorted(CATEGORIES)) and list(SYNSETS.values()) == sorted(SYNSETS.values())
    # The published ranges of some categories.
    published = {"Car": (8, 11), "Chair": (12, 15), "Lamp": (24, 27), "Motorbike": (30, 35), "Table": (47, 49)}
    assert {name: (PARTS[name][0], PARTS[name][-1]) for name in published} == published


@pytest.mark.parametrize(
    ("truth", "predicted", "parts", "message"),
    [
        ([6, 7], [6], (6, 7), r"of one length, got \(2,\) and \(1,\)"),
        ([6, 8], [6, 6], (6, 7), r"truth must be of the parts \(6, 7\) or 255, got 8"),
        ([], [], (), "parts must name at least one part"),
    ],
)
def test_refusals_of_parts(truth, predicted, parts, message):
    with pytest.raises(ValueError, match=message):
        shape_iou(np.array(truth), np.array(predicted), parts=parts)


def part_sample(token, category, truth):
    return {"sample_token": token, "category": CATEGORIES.index(category), "point_labels": torch.tensor(truth)}


def test_the_metric_of_parts(tmp_path):
    metric = ShapeNetPartMetric(output_dir=tmp_path)
    metric.dataset_meta = {"split": "val", "root": str(mark_simulated(tmp_path))}
    samples = [part_sample("a", "Cap", [6, 7]), part_sample("b", "Cap", [6, 6]), part_sample("c", "Mug", [36, 37])]
    said = [PointLabels(torch.tensor(labels), torch.ones(2)) for labels in ([6, 7], [6, 7], [36, 36])]
    metric.process({"samples": samples}, said)
    scores = metric.evaluate(3)
    assert scores["Cap/mIoU"] == pytest.approx((1 + 0.25) / 2) and scores["Mug/mIoU"] == pytest.approx(0.25)
    assert scores["instance_mIoU"] == pytest.approx(1.5 / 3)
    assert scores["class_mIoU"] == pytest.approx((0.625 + 0.25) / 2)
    report = json.loads((tmp_path / "scores.json").read_text())
    assert report["scores"] == scores and "simulated" in report["title"] and "Cap" in report["table"]
    thinned = {**samples[1], "point_labels": torch.tensor([6]), "recorded_labels": torch.tensor([6, 7, 7])}
    metric.process({"samples": [thinned]}, [PointLabels(torch.tensor([6, 7, 6]), torch.ones(3))])
    assert metric.evaluate(1)["instance_mIoU"] == pytest.approx((1 / 2 + 1 / 2) / 2)  # every recorded point is scored
    with pytest.raises(ValueError, match="sample c must have 2 predictions, got 1"):
        metric.process({"samples": samples[2:]}, [PointLabels(torch.tensor([36]), torch.ones(1))])


@st.composite
def votes(draw):
    """A few blocks of a room of 12 points: labels, scores in whole eighths (so sums are exact), rows."""
    blocks = []
    for _ in range(draw(st.integers(0, 4))):
        count = draw(st.integers(0, 10))
        columns = (st.sampled_from([0, 1, 2, 255]), st.integers(0, 8).map(lambda n: n / 8), st.integers(0, 11))
        blocks.append([draw(st.lists(values, min_size=count, max_size=count)) for values in columns])
    return blocks


@settings(max_examples=60, deadline=None)
@given(votes(), st.sampled_from(["sum", "highest"]))
def test_votes_are_counted_in_every_point(blocks, rule):
    room = RoomVotes(12, 3, rule=rule)
    for labels, scores, rows in blocks:
        room.add(np.array(labels, np.int64), np.array(scores, np.float32), np.array(rows, np.int64))
    np.testing.assert_array_equal(room.labels(), oracle.room_labels(blocks, 12, 3, rule))


def test_the_two_rules_differ():
    votes = (np.array([0, 1, 1]), np.array([0.6, 0.4, 0.4]), np.array([0, 0, 0]))
    for rule, expected in (("sum", 1), ("highest", 0)):
        room = RoomVotes(2, 2, rule=rule)
        room.add(*votes)
        assert room.labels().tolist() == [expected, 255]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (([0], [1.0, 1.0], [0]), "of one length"),
        (([3], [1.0], [0]), r"labels must be in \[0, 3\), got 3"),
        (([0], [1.0], [5]), r"rows must be in \[0, 5\), got 5"),
        (([0], [float("nan")], [0]), "scores must be >= 0 and no NaN"),
    ],
)
def test_refusals_of_votes(block, message):
    with pytest.raises(ValueError, match=message):
        RoomVotes(5, 3).add(*map(np.array, block))
    with pytest.raises(ValueError, match="rule must be one of sum, highest, got 'most'"):
        RoomVotes(5, 3, rule="most")


def test_the_metric_of_rooms_votes_over_whole_rooms(tmp_path):
    rng = np.random.default_rng(0)
    truth = {"Area_5/a": rng.integers(0, 3, 20), "Area_5/b": rng.integers(0, 3, 15)}
    truth["Area_5/b"][:3] = 255
    samples, said, blocks = [], [], {room: [] for room in truth}
    for room, labels in truth.items():
        for block in range(3):
            rows = rng.choice(len(labels) - 1, 9, replace=False)  # nobody says anything of the last point
            guess, score = rng.integers(0, 3, 9), rng.integers(1, 9, 9) / 8
            blocks[room].append((guess.tolist(), score.tolist(), rows.tolist()))
            sample = {"sample_token": f"{room}:{block}", "room": room, "room_index": rows}
            samples.append({**sample, "num_room_points": len(labels), "point_labels": torch.tensor(labels[rows])})
            said.append(PointLabels(torch.tensor(guess), torch.tensor(score)))
    metric = S3DISMetric(output_dir=tmp_path, classes=("floor", "wall", "table"))
    metric.dataset_meta = {"split": "val"}
    metric.process({"samples": samples}, said)
    metric.process({"samples": samples[:1]}, said[:1])  # a sampler's repetition counts once
    scores = metric.evaluate(len(samples))
    seen, predicted = [], []
    for room, labels in truth.items():
        rows = {row for *_, rows in blocks[room] for row in rows}
        seen += [label if row in rows else 255 for row, label in enumerate(labels.tolist())]
        predicted += oracle.room_labels(blocks[room], len(labels), 3, "sum")
    mean, accuracy = oracle.mean_iou_of_room(seen, predicted, 3)
    assert scores["mIoU"] == pytest.approx(mean) and scores["accuracy"] == pytest.approx(accuracy)
    assert json.loads((tmp_path / "segmentation_scores.json").read_text())["num_samples"] == 2


def test_blocks_without_a_place_are_rooms_of_their_own():
    metric = S3DISMetric(classes=("floor", "wall"))
    samples = [{"sample_token": f"a:{i}", "room": "a", "point_labels": torch.tensor([0, 1])} for i in range(2)]
    metric.process({"samples": samples}, [PointLabels(torch.tensor(said), torch.ones(2)) for said in ([0, 1], [1, 1])])
    assert metric.evaluate(2)["accuracy"] == pytest.approx(3 / 4)
    with pytest.raises(ValueError, match="votes must be one of sum, highest"):
        S3DISMetric(votes="most")
    files = S3DISMetric(format_only=True, output_dir="x", classes=("floor", "wall"))
    for refused in (lambda: files.process({"samples": samples[:1]}, []), lambda: files.evaluate(0)):
        with pytest.raises(ValueError, match="format_only is for ScanNet"):
            refused()


def test_points_behind_the_last_row_that_was_seen_are_in_the_files(tmp_path):
    """A scan is as long as its samples say; without that, up to the last row that one of them names."""
    for count, lines in ((7, ["3", "0", "1", "0", "0", "0", "0"]), (None, ["3", "0", "1"])):
        metric = S3DISMetric(output_dir=tmp_path, classes=("wall", "bed"), format_only=True)
        metric.dataset_meta = {"numbers": (1, 3), "split": "test"}
        sample = {"sample_token": "a:0", "room": "a", "room_index": np.array([2, 0]), "num_room_points": count}
        metric.process({"samples": [sample]}, [PointLabels(torch.tensor([0, 1]), torch.ones(2))])
        metric.evaluate(1)
        assert (tmp_path / "scannet/a.txt").read_text().split() == lines


def test_files_of_scannet_hold_numbers_of_nyu40(tmp_path):
    np.save(tmp_path / "scan_vert.npy", np.random.default_rng(0).uniform(0, [1, 1, 1, 255, 255, 255], (30, 6)))
    recorded = np.random.default_rng(1).choice([1, 2, 39, 0, 13], 30)
    np.save(tmp_path / "scan_sem_label.npy", recorded)
    data = ScanNet(root=tmp_path, scans=["scan"], block=0.5, test_mode=True)
    metric = S3DISMetric(output_dir=tmp_path / "out")
    metric.dataset_meta = data.metainfo
    for index in range(len(data)):
        sample = data[index]
        labels = torch.from_numpy(sample["point_labels"])
        metric.process({"samples": [sample]}, [PointLabels(labels, torch.ones(len(labels)))])
    assert metric.evaluate(len(data))["mIoU"] == 1
    written = np.loadtxt(tmp_path / "out/scannet/scan.txt", dtype=int)
    np.testing.assert_array_equal(written, np.where(np.isin(recorded, [0, 13]), 0, recorded))
    (tmp_path / "scan_sem_label.npy").unlink()  # a scan without labels
    data, files = ScanNet(root=tmp_path, scans=["scan"], block=None), S3DISMetric(output_dir=tmp_path, format_only=True)
    files.dataset_meta = data.metainfo
    said = PointLabels(torch.full((30,), 19), torch.ones(30))
    with pytest.raises(ValueError, match="sample scan must have point_labels to be scored"):
        metric.process({"samples": [data[0]]}, [said])
    files.process({"samples": [data[0]]}, [said])
    assert files.evaluate(1) == {} and np.loadtxt(tmp_path / "scannet/scan.txt").tolist() == [39] * 30
