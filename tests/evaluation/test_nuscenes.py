# SPDX-License-Identifier: Apache-2.0
"""Results file and official scores: perfect and displaced predictions of a small data set, and bad input."""

import json
import math
import re

import numpy as np
import pytest
import torch

from pcperc.datasets.collate import collate
from pcperc.datasets.nuscenes import NuScenesDataset
from pcperc.datasets.nuscenes_index import CLASSES, prepare_nuscenes
from pcperc.evaluation import (
    NuScenesMetric,
    by_sample,
    detections_to_rows,
    evaluate_results,
    guess_attribute,
    read_results,
    rows_to_detections,
    write_results,
)
from pcperc.evaluation import nuscenes as nuscenes_evaluation
from pcperc.geometry import Detections, rigid_matrix, wrap_angle
from pcperc.simulation.nuscenes_writer import NuScenesWriter
from tests import nuscenes_root as tiny

pytest.importorskip("nuscenes")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tiny.write_tiny_root(tmp_path_factory.mktemp("tiny"))
    prepare_nuscenes(root, tiny.VERSION, show_progress=False)
    return root


@pytest.fixture(scope="module")
def data(root):
    return NuScenesDataset(root=root, version=tiny.VERSION, split="sim_val", modalities=("lidar",), num_sweeps=0)


def truth(sample, *, shift=0.0, scores=1.0) -> Detections:
    boxes = torch.as_tensor(sample["boxes"]).clone()
    boxes[:, 0] += shift
    return Detections(boxes, torch.full((len(boxes),), float(scores)), torch.as_tensor(sample["labels"]))


def score(data, make, **options):
    """Run the metric as MMEngine's loop does, batches of 2."""
    metric = NuScenesMetric(**options)
    metric.dataset_meta = data.metainfo
    samples = [data[i] for i in range(len(data))]
    for start in range(0, len(samples), 2):
        batch = collate(samples[start : start + 2])
        metric.process(batch, [make(sample) for sample in batch["samples"]])
    return metric.evaluate(len(samples))


def test_perfect_predictions_score_one(data, tmp_path):
    metrics = score(data, truth, output_dir=tmp_path)
    assert metrics["mAP"] == pytest.approx(1) and metrics["NDS"] == pytest.approx(1, abs=1e-4)
    for name in CLASSES:
        assert metrics[f"{name}/AP"] == pytest.approx(1), name
        assert metrics[f"{name}/ATE"] < 1e-4 and metrics[f"{name}/ASE"] < 1e-4, name
    assert metrics["car/AVE"] < 1e-3 and metrics["car/AOE"] < 1e-4 and metrics["mAAE"] == 0
    assert "traffic_cone/AOE" not in metrics and all(value == value for value in metrics.values())
    assert {p.name for p in tmp_path.iterdir()} == {
        *("results_nusc.json", "metrics_summary.json", "metrics_details.json")
    }


def test_displaced_predictions(data):
    # 0.6 m off: no match at 0.5 m, a match at 1, 2 and 4 m.
    metrics = score(data, lambda sample: truth(sample, shift=0.6))
    for name in CLASSES:
        assert metrics[f"{name}/AP"] == pytest.approx(0.75), name
        assert metrics[f"{name}/ATE"] == pytest.approx(0.6, abs=1e-3), name


def test_a_missing_class_costs_its_share(data):
    def without_cars(sample):
        found = truth(sample)
        return found.filter(found.labels != CLASSES.index("car"))

    metrics = score(data, without_cars)
    assert metrics["car/AP"] == 0 and metrics["mAP"] == pytest.approx(0.9)


def test_finding_nothing_scores_zero(data, tmp_path):
    metrics = score(data, lambda sample: Detections.empty(), output_dir=tmp_path)
    assert metrics["mAP"] == metrics["NDS"] == 0 and metrics["mATE"] == 1
    assert json.loads((tmp_path / "metrics_summary.json").read_text())["mean_ap"] == 0


def test_processes_are_put_together_and_repeats_count_once(data, monkeypatch):
    samples = [data[i] for i in range(3)]
    results = [(s["sample_token"], truth(s).numpy(), s["ego2global"] @ s["lidar2ego"]) for s in samples]
    monkeypatch.setattr(by_sample, "all_gather_object", lambda own: [own, [results[1], results[0]]])
    metric = NuScenesMetric()
    metric.dataset_meta = data.metainfo
    metric.results = [results[0], results[2]]
    assert metric.evaluate(3)["mAP"] == pytest.approx(1)
    assert metric.results == []


def test_official_split_names(tmp_path):
    with NuScenesWriter(tmp_path, "v1.0-mini") as writer:
        for name in ("scene-0061", "scene-0103"):
            scene = writer.new_scene(name, split="own")
            tiny.fill_scene(scene, offset_us=int(name[-4:]) * 100_000_000)
            writer.add_scene(scene)
    paths = prepare_nuscenes(tmp_path, "v1.0-mini", show_progress=False)
    assert set(paths) == {"mini_train", "mini_val", "own"}
    data = NuScenesDataset(root=tmp_path, version="v1.0-mini", split="mini_val", modalities=("lidar",))
    assert len(data) == 3
    assert score(data, truth)["mAP"] == pytest.approx(1)


def test_table_names_simulated_data(data, monkeypatch):
    lines = []
    monkeypatch.setattr(nuscenes_evaluation, "print_log", lambda text, **_: lines.append(text))
    score(data, truth)
    text = "\n".join(lines)
    assert "v1.0-tiny sim_val (simulated data)" in text
    assert "construction_vehicle" in text and "mAP: 1.0000" in text and "NDS: " in text


def test_format_only_writes_and_does_not_score(data, tmp_path):
    assert score(data, truth, output_dir=tmp_path, format_only=True, modalities=("lidar",)) == {}
    content = json.loads((tmp_path / "results_nusc.json").read_text())
    assert content["meta"] == {
        **{"use_camera": False, "use_lidar": True, "use_radar": False, "use_map": False, "use_external": False}
    }
    assert len(content["results"]) == 3
    with pytest.raises(ValueError, match="output_dir must be given with format_only"):
        NuScenesMetric(format_only=True)


def test_plots_on_request(data, tmp_path, monkeypatch):
    from pathlib import Path

    from nuscenes.eval.detection.evaluate import DetectionEval

    def render(self, metrics, data):  # the devkit takes 20 s for its 16 figures
        (Path(self.plot_dir) / "summary.pdf").touch()

    monkeypatch.setattr(DetectionEval, "render", render)
    score(data, truth, output_dir=tmp_path, plots=True)
    assert (tmp_path / "plots/summary.pdf").is_file()


# --- rows of the results file

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


def test_metric_needs_to_know_the_data_set(data):
    metric = NuScenesMetric()
    with pytest.raises(ValueError, match="root must be given, or be in the metainfo"):
        metric.compute_metrics([])
    with pytest.raises(ValueError, match="data_samples must have 1 entries, got 0"):
        metric.process(collate([data[0]]), [])
