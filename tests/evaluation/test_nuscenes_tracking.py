# SPDX-License-Identifier: Apache-2.0
"""Tracks of a small data set: the results file, official scores by the devkit, and bad input."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch

from pcperc.datasets.collate import collate
from pcperc.datasets.nuscenes_record import CLASSES
from pcperc.engine.config import ConfigError
from pcperc.engine.tracking import TrackOptions, track
from pcperc.evaluation import (
    NuScenesTrackingMetric,
    SceneSample,
    evaluate_tracking,
    read_tracking_results,
    rows_to_tracks,
    track_scenes,
    write_tracking_results,
)
from pcperc.evaluation.nuscenes_tracking import TRACKING_CLASSES
from pcperc.evaluation.nuscenes_tracking_results import tracks_to_rows
from pcperc.geometry import Detections, Tracks, boxes_from_nuscenes, wrap_angle
from pcperc.tracking import TRACKERS, GreedyTracker
from tests import nuscenes_root as tiny
from tests.simulated_root import mark_simulated

pytest.importorskip("nuscenes")


@pytest.fixture
def motmetrics():
    if importlib.util.find_spec("motmetrics") is None:
        pytest.skip("motmetrics is not installed")
    return importlib.import_module("motmetrics")  # where it is there but what it needs is not, tests fail


def truth(sample, *, scores=1.0, shift=0.0) -> Detections:
    boxes = torch.as_tensor(sample["boxes"]).clone()
    boxes[:, 2] += shift
    return Detections(boxes, torch.full((len(boxes),), float(scores)), torch.as_tensor(sample["labels"]))


def score(data, make, **options):
    metric = NuScenesTrackingMetric(**options)
    metric.dataset_meta = data.metainfo
    samples = [data[i] for i in range(len(data))]
    for start in range(0, len(samples), 2):
        batch = collate(samples[start : start + 2])
        metric.process(batch, [make(sample) for sample in batch["samples"]])
    return metric.evaluate(len(samples))


def test_scenes_share_no_track_and_tilted_sensors_no_heading():
    """Boxes that stand upright in the world come out as they are; a later scene has numbers of its own."""
    tilted = np.eye(4)
    tilt, turn = (np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]) for a in (0.2, 0.1))
    tilted[:3, :3], tilted[:3, 3] = tilt @ turn[[2, 0, 1]][:, [2, 0, 1]], (300.0, -200.0, 4.0)
    world = np.array([[310.0, -195.0, 3.0, 4.5, 2.0, 1.6, 0.9, 3.0, -2.0]])
    half = world[:, 6] / 2
    rotation = np.stack([np.cos(half), 0 * half, 0 * half, np.sin(half)], 1)
    seen = boxes_from_nuscenes(world[:, :3], world[:, [4, 3, 5]], rotation, world[:, 7:], np.linalg.inv(tilted))
    found = Detections(torch.from_numpy(seen), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    for tracker in TRACKERS.values():
        samples = [SceneSample(str(time), f"scene-{time}", float(time), found, tilted) for time in (1, 2)]
        tracks = track_scenes(tracker(CLASSES), samples)
        for one in tracks.values():
            np.testing.assert_allclose(one.boxes, world, rtol=1e-9)
        assert [tracks[token].ids.tolist() for token in "12"] == [[1], [2]]
        out_of_order = [sample._replace(scene_name="scene") for sample in samples[::-1]]
        tracks = track_scenes(tracker(CLASSES), out_of_order)
        assert [tracks[token].ids.tolist() for token in "12"] == [[1], [1]]


def test_of_too_many_tracks_the_best_are_written():
    boxes, scores = np.tile([0.0, 0, 0, 4, 2, 1, 0, 0, 0], (510, 1)), np.arange(510.0) / 510
    rows = tracks_to_rows(
        Tracks(boxes, scores, np.zeros(510, np.int64), np.arange(510)), sample_token="t", classes=CLASSES
    )
    assert [row["tracking_id"] for row in rows] == [str(number) for number in range(10, 510)]


@pytest.mark.parametrize("tracker", TRACKERS)
def test_true_boxes_score_one(data, tmp_path, motmetrics, tracker):
    metrics = score(data, truth, output_dir=tmp_path, tracker=tracker)
    assert metrics["AMOTA"] == pytest.approx(1) and metrics["AMOTP"] < 1e-3 and metrics["IDS"] == 0
    for name in TRACKING_CLASSES:
        assert metrics[f"{name}/AMOTA"] == pytest.approx(1), name
    names = {"results_nusc.json", "results_tracking.json", "tracking_summary.json"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_new_numbers_in_each_sample_cost_switches(data, root, tmp_path, motmetrics):
    """The same boxes, every one of them a new track: the score must see it."""
    tracks, number = {}, 0
    for index in range(len(data)):
        sample = data[index]
        found = truth(collate([sample])["samples"][0])
        ids = torch.arange(len(found)) + number + 1
        number += len(found)
        pose = sample["ego2global"] @ sample["lidar2ego"]
        single = SceneSample(sample["sample_token"], "scene", float(index), found, pose)
        world = track_scenes(GreedyTracker(CLASSES), [single])[sample["sample_token"]]
        tracks[sample["sample_token"]] = Tracks(world.boxes, world.scores, world.labels, ids[: len(world)].numpy())
    path = write_tracking_results(tmp_path / "tracks.json", tracks, classes=CLASSES)
    summary = evaluate_tracking(path, root=root, version=tiny.VERSION, split="sim_val", output_dir=tmp_path)
    assert summary["label_metrics"]["ids"]["car"] == 2 and summary["amota"] < 0.5


def test_nothing_found_scores_zero(data, tmp_path, motmetrics):
    metrics = score(data, lambda sample: truth(sample).filter(slice(0, 0)), output_dir=tmp_path)
    assert metrics["AMOTA"] == 0 and metrics["car/AMOTA"] == 0


def test_results_go_to_a_file_and_back(data, tmp_path):
    sample = data[0]
    pose = sample["ego2global"] @ sample["lidar2ego"]
    scene = [SceneSample(sample["sample_token"], "scene", 1.0, truth(collate([sample])["samples"][0]), pose)]
    tracks = track_scenes(GreedyTracker(CLASSES), scene)
    path = write_tracking_results(tmp_path / "tracks.json", tracks, classes=CLASSES, modalities=("lidar",))
    assert json.loads(path.read_text())["meta"]["use_camera"] is False
    rows = read_tracking_results(path)[sample["sample_token"]]
    back = rows_to_tracks(rows, pose, classes=CLASSES).numpy()
    kept = np.isin(np.array(CLASSES)[sample["labels"]], TRACKING_CLASSES)
    difference = back.boxes[:, :7] - sample["boxes"][kept][:, :7]
    difference[:, 6] = wrap_angle(difference[:, 6])
    np.testing.assert_allclose(difference, 0, atol=1e-4)
    assert sorted(back.ids.tolist()) == list(range(1, kept.sum() + 1))
    named = rows_to_tracks(
        [{**rows[0], "tracking_id": "a1b2"}, {**rows[1], "tracking_id": "a1b3"}], pose, classes=CLASSES
    )
    assert len(set(named.ids.tolist())) == 2


def test_broken_files(data, tmp_path):
    row = {
        **{"translation": [0, 0, 0], "size": [1, 1, 1], "rotation": [1, 0, 0, 0], "velocity": [0, 0]},
        **{"tracking_name": "car", "tracking_score": 0.5},
    }
    path = tmp_path / "tracks.json"
    path.write_text(json.dumps({"meta": {}, "results": {"a": [row]}}))
    with pytest.raises(ValueError, match=r"a box of sample a: 'tracking_id' must be a name, got None"):
        read_tracking_results(path)
    path.write_text(json.dumps({"results": {"a": [{**row, "tracking_score": "high"}]}}))
    with pytest.raises(ValueError, match="'tracking_score' must be a number, got 'high'"):
        read_tracking_results(path)
    with pytest.raises(FileNotFoundError, match="tools/test.py --eval tracking writes it"):
        read_tracking_results(tmp_path / "none.json")
    with pytest.raises(ValueError, match="tracker must be one of greedy, kalman, got 'magic'"):
        NuScenesTrackingMetric(tracker="magic")


def test_what_scores_need_is_asked_for_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "motmetrics", None)
    with pytest.raises(ImportError, match="nuscenes-devkit and motmetrics must be installed"):
        NuScenesTrackingMetric()
    with pytest.raises(ImportError, match="motmetrics must be installed"):
        track(TrackOptions(tmp_path / "not read yet.py", tracker="greedy"))
    NuScenesTrackingMetric(format_only=True, output_dir=tmp_path)


def test_two_samples_at_one_time_are_named(data):
    sample = SceneSample("first", "scene-1", 1.0, Detections.empty(), np.eye(4))
    with pytest.raises(ValueError, match=r"scene scene-1, sample second: GreedyTracker.step: timestamp must be later"):
        track_scenes(GreedyTracker(CLASSES), [sample, sample._replace(token="second")])


@pytest.fixture
def config(root, tmp_path):
    path = tmp_path / "config.py"
    path.write_text(
        f"data_root, data_version = {str(root)!r}, {tiny.VERSION!r}\n"
        "_dataset = dict(type='NuScenesDataset', root=data_root, version=data_version, split='sim_val', num_sweeps=0)\n"
        "test_dataloader = dict(batch_size=1, dataset=_dataset)\n"
    )
    return path


def test_track_tool_on_the_truth_and_on_a_file_with_a_missing_sample(data, config, tmp_path, motmetrics, capsys):
    mark_simulated(data.root)
    metrics = track(TrackOptions(config, tracker="greedy", work_dir=tmp_path / "truth"))
    assert metrics["AMOTA"] == pytest.approx(1)
    assert "simulated data" in capsys.readouterr().out
    score(data, truth, output_dir=tmp_path / "found")
    path = tmp_path / "found" / "results_nusc.json"
    again = track(TrackOptions(config, results=path, work_dir=tmp_path / "again"))
    assert again["AMOTA"] == pytest.approx(1)
    content = json.loads(path.read_text())
    token = data[1]["sample_token"]
    del content["results"][token]
    path.write_text(json.dumps(content))
    with pytest.raises(
        ConfigError, match=f"must hold every sample, but lacks 1 of 3 samples of sim_val, first {token}"
    ):
        track(TrackOptions(config, results=path, work_dir=tmp_path / "bad"))
    assert not (tmp_path / "bad").exists()
    with pytest.raises(ConfigError, match="--tracker must be one of greedy, kalman, got 'x'"):
        track(TrackOptions(config, tracker="x"))
