# SPDX-License-Identifier: Apache-2.0
"""The results file of nuScenes: rows by hand, attributes, the way back, and bad input."""

import json
import math
import re

import numpy as np
import pytest
import torch

from pcperc.datasets.nuscenes_record import CLASSES
from pcperc.evaluation import (
    detections_to_rows,
    evaluate_results,
    guess_attribute,
    read_results,
    rows_to_detections,
    write_results,
)
from pcperc.geometry import Detections, rigid_matrix, wrap_angle
from tests import nuscenes_root as tiny
from tests.datasets.nuscenes_helpers import truth

pytest.importorskip("nuscenes")

BOX = [1.0, 2.0, 0.5, 4.0, 2.0, 1.5, 0.0, 3.0, 0.0]


def one(box=BOX, score=0.5, label=0) -> Detections:
    return Detections(torch.tensor([box]), torch.tensor([score]), torch.tensor([label]))


def test_row_by_hand():
    lidar2global = rigid_matrix([100, 200, 1], [np.sqrt(0.5), 0, 0, np.sqrt(0.5)])  # turned by 90 degrees
    (row,) = detections_to_rows(one(), lidar2global, sample_token="t", classes=CLASSES)
    np.testing.assert_allclose(row.pop("translation"), [98, 201, 1.5], atol=1e-6)
    np.testing.assert_allclose(row.pop("size"), [2, 4, 1.5])
    np.testing.assert_allclose(row.pop("rotation"), [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-6)
    np.testing.assert_allclose(row.pop("velocity"), [0, 3], atol=1e-6)
    assert row == {
        **{"sample_token": "t", "detection_name": "car", "detection_score": 0.5, "attribute_name": "vehicle.moving"}
    }


@pytest.mark.parametrize(
    ("name", "slow", "fast"),
    [
        ("car", "vehicle.parked", "vehicle.moving"),
        ("bus", "vehicle.stopped", "vehicle.moving"),
        ("trailer", "vehicle.parked", "vehicle.moving"),
        ("bicycle", "cycle.without_rider", "cycle.with_rider"),
        ("motorcycle", "cycle.without_rider", "cycle.with_rider"),
        ("pedestrian", "pedestrian.standing", "pedestrian.moving"),
        ("barrier", "", ""),
        ("traffic_cone", "", ""),
    ],
)
def test_attributes(name, slow, fast):
    assert guess_attribute(name, (0.1, 0.15)) == slow
    assert guess_attribute(name, (-0.15, 0.15)) == fast
    assert guess_attribute(name, (np.nan, np.nan)) == slow


def test_attributes_are_relevant_to_their_class():
    from nuscenes.eval.detection.utils import detection_name_to_rel_attributes

    for name in CLASSES:
        for speed in (0, 1):
            attribute = guess_attribute(name, (speed, 0))
            assert attribute in (detection_name_to_rel_attributes(name) or [""])


def test_the_best_500_boxes_are_kept():
    count = 600
    scores = torch.from_numpy(np.random.default_rng(0).permutation(count) / count).float()
    many = Detections(torch.tensor([BOX]).repeat(count, 1), scores, torch.zeros(count, dtype=torch.long))
    rows = detections_to_rows(many, np.eye(4), sample_token="t", classes=CLASSES)
    assert len(rows) == 500
    np.testing.assert_allclose(sorted(r["detection_score"] for r in rows), np.arange(100, 600) / 600, atol=1e-6)


def test_results_file_round_trip(data, tmp_path):
    sample = data[0]
    lidar2global = sample["ego2global"] @ sample["lidar2ego"]
    found = truth(sample, scores=0.25)
    found = Detections(found.boxes, torch.linspace(0.9, 0.1, len(found)), found.labels)
    path = write_results(tmp_path / "r.json", [(sample["sample_token"], found, lidar2global)], classes=CLASSES)
    rows = read_results(path)[sample["sample_token"]]
    back = rows_to_detections(rows, lidar2global, classes=CLASSES)
    turned = wrap_angle(back.boxes[:, 6] - found.boxes[:, 6])  # pi and -pi are one direction
    assert turned.abs().max() < 1e-5
    others = [0, 1, 2, 3, 4, 5, 7, 8]
    torch.testing.assert_close(back.boxes[:, others], found.boxes[:, others], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(back.scores, found.scores)
    assert back.labels.tolist() == found.labels.tolist()
    assert len(rows_to_detections([], lidar2global, classes=CLASSES)) == 0


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (one([float("nan"), *BOX[1:]]), "sample t: boxes and scores must be finite"),
        (one([*BOX[:3], 0.0, *BOX[4:]]), "sizes > 0"),
        (one(score=float("nan")), "scores must be finite"),
        (one(label=10), r"labels must be in \[0, 10\), got \[10\]"),
    ],
)
def test_impossible_detections(found, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_results(tmp_path / "r.json", [("t", found, np.eye(4))], classes=CLASSES)
    assert not (tmp_path / "r.json").exists()


def test_unknown_velocity_is_written_as_zero():
    (row,) = detections_to_rows(
        one([*BOX[:7], float("nan"), float("nan")]), np.eye(4), sample_token="t", classes=CLASSES
    )
    assert row["velocity"] == [0.0, 0.0] and row["attribute_name"] == "vehicle.parked"


def test_a_sample_twice(tmp_path):
    with pytest.raises(ValueError, match="must have each sample once, got t twice"):
        write_results(tmp_path / "r.json", [("t", one(), np.eye(4))] * 2, classes=CLASSES)


def test_results_of_other_samples_are_refused(root, data, tmp_path):
    where = {"root": root, "version": tiny.VERSION, "split": "sim_val", "output_dir": tmp_path}
    tokens = [data.read_record(i)["sample_token"] for i in range(3)]
    path = write_results(tmp_path / "r.json", [(t, Detections.empty(), np.eye(4)) for t in tokens[:2]], classes=CLASSES)
    with pytest.raises(ValueError, match=f"exactly the samples of sim_val, but lacks 1: {tokens[2]}"):
        evaluate_results(path, **where)
    predictions = [(t, Detections.empty(), np.eye(4)) for t in [*tokens, "other"]]
    path = write_results(tmp_path / "r.json", predictions, classes=CLASSES)
    with pytest.raises(ValueError, match="but has in excess 1: other"):
        evaluate_results(path, **where)


ROW = {
    **{"translation": [1, 2, 3], "size": [1, 2, 1], "rotation": [1, 0, 0, 0], "velocity": [0, math.nan]},
    **{"detection_name": "car", "detection_score": 0.5},
}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (5, "sample t must have a list of boxes, got int"),
        (["car"], "a box of sample t must be an object, got str"),
        ([{**ROW, "translation": "abc"}], "a box of sample t: 'translation' must be 3 numbers, got 'abc'"),
        ([{**ROW, "translation": [1, 2, math.nan]}], "'translation' must be 3 numbers"),
        ([ROW, {**ROW, "size": [1, 0, 1]}], "'size' must be 3 numbers > 0, got "),
        ([{key: ROW[key] for key in ROW if key != "size"}], "'size' must be 3 numbers > 0, got None"),
        ([{**ROW, "detection_score": "high"}], "'detection_score' must be a number, got 'high'"),
        ([{**ROW, "detection_name": None}], "'detection_name' must be a class, got None"),
    ],
)
def test_wrong_rows_in_results(tmp_path, rows, message):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"meta": {}, "results": {"t": rows}}))
    with pytest.raises(ValueError, match=f"results file {path}: .*{re.escape(message)}"):
        read_results(path)
    path.write_text(json.dumps({"meta": {}, "results": {"t": [ROW]}}))
    assert len(read_results(path)["t"]) == 1


def test_unreadable_results(tmp_path):
    path = tmp_path / "r.json"
    with pytest.raises(FileNotFoundError, match="results file .*r.json is missing"):
        read_results(path)
    path.write_text('{"results": {"a": [')
    with pytest.raises(ValueError, match="results file .*r.json must be JSON"):
        read_results(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="must have the key 'results'"):
        read_results(path)
