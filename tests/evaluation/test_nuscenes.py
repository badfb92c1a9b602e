# SPDX-License-Identifier: Apache-2.0
"""Official scores of nuScenes: perfect, displaced and missing predictions of a small data set."""

import json

import pytest

from pcperc.datasets.collate import collate
from pcperc.datasets.nuscenes import NuScenesDataset
from pcperc.datasets.nuscenes_index import prepare_nuscenes
from pcperc.datasets.nuscenes_record import CLASSES
from pcperc.evaluation import NuScenesMetric, by_sample
from pcperc.evaluation import nuscenes as nuscenes_evaluation
from pcperc.geometry import Detections
from pcperc.simulation.nuscenes_writer import NuScenesWriter
from tests import nuscenes_root as tiny
from tests.datasets.nuscenes_helpers import truth
from tests.simulated_root import mark_simulated

pytest.importorskip("nuscenes")


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
    mark_simulated(data.root)
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


def test_metric_needs_to_know_the_data_set(data):
    metric = NuScenesMetric()
    with pytest.raises(ValueError, match="root must be given, or be in the metainfo"):
        metric.compute_metrics([])
    with pytest.raises(ValueError, match="data_samples must have 1 entries, got 0"):
        metric.process(collate([data[0]]), [])
