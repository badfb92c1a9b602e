# SPDX-License-Identifier: Apache-2.0
"""Argoverse 2's scores by av2 where it is installed, the table of its server, and what is refused before a long run."""

import sys

import numpy as np
import pytest
import torch

from pcperc.datasets.argoverse2 import CATEGORIES, Argoverse2
from pcperc.datasets.collate import collate
from pcperc.evaluation.argoverse2 import Argoverse2Metric, check_map, evaluate_argoverse2, write_argoverse2_results
from pcperc.geometry import Detections
from pcperc.tables import read_table
from tests.argoverse2_root import LOG, START, STEP, simulate_logs, write_map, write_root

pytest.importorskip("pyarrow")


@pytest.fixture
def root(tmp_path):
    return write_root(tmp_path / "av2")


def truth(sample):
    boxes = torch.as_tensor(sample["boxes"])
    return Detections(boxes, torch.linspace(1, 0.5, len(boxes)), torch.as_tensor(sample["labels"]))


def score(data, result, **options):
    """Score what ``result`` makes of each sample."""
    metric = Argoverse2Metric(**options)
    metric.dataset_meta = data.metainfo
    for index in range(len(data)):
        batch = collate([data[index]])
        metric.process(batch, [result(batch["samples"][0])])
    return metric.evaluate(len(data))


def test_true_boxes_score_one_by_av2(tmp_path):
    pytest.importorskip("av2")
    data = Argoverse2(root=simulate_logs(tmp_path / "simulated"), split="val", num_sweeps=0)
    metrics = score(data, truth, output_dir=tmp_path, in_map_only=False)
    assert metrics["mAP"] == pytest.approx(1, abs=1e-3) and metrics["CDS"] == pytest.approx(1, abs=2e-3)
    assert metrics["REGULAR_VEHICLE/ATE"] < 0.01 and 0 < metrics["mAP_all"] < 1
    assert "simulated data" in (tmp_path / "scores.json").read_text()


@pytest.mark.realdata
def test_a_category_whose_boxes_are_empty_does_not_count(realdata):
    """The truck cabs of the real sample hold no point."""
    pytest.importorskip("av2")
    data = Argoverse2(root=realdata, split="argoverse2", num_sweeps=0)
    metrics = score(data, truth, in_map_only=False)
    assert metrics["mAP"] == metrics["CDS"] == 1 and "TRUCK_CAB/AP" not in metrics


def test_nothing_is_found(root, tmp_path):
    pytest.importorskip("av2")
    data = Argoverse2(root=root, split="val")
    nothing = Detections(torch.zeros(0, 9), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    metrics = score(data, lambda _: nothing, output_dir=tmp_path, in_map_only=False)
    assert metrics["mAP"] == 0 and metrics["REGULAR_VEHICLE/ATE"] == 2 and "BOLLARD/AP" not in metrics


def test_boxes_outside_of_the_map_are_left_out(root):
    """The road's edge is 8 m beside the first place of the car, whose corners reach 2.6 m: in the last sweep, when it
    has come 1 m nearer, one is within 5 m. av2 knows no road beside what its map spans, hence the strip far behind."""
    pytest.importorskip("av2")
    data = Argoverse2(root=root, split="val")
    edge = 508
    write_map(root / "val" / LOG, area=[(900, 480), (901, 480), (901, edge), (1100, edge), (1100, 600), (900, 600)])
    tokens = data.tokens
    found = [(token, truth(collate([data[k]])["samples"][0])) for k, token in enumerate(tokens)]
    results = write_argoverse2_results(root / "found.feather", found, classes=data.classes)
    where = dict(root=root, split="val")
    everywhere = evaluate_argoverse2(results, tokens, **where, in_map_only=False)["REGULAR_VEHICLE"]
    on_road = evaluate_argoverse2(results, tokens, **where)["REGULAR_VEHICLE"]
    assert everywhere["num_boxes"] == 3 and on_road["num_boxes"] == 1
    assert everywhere["AP"] == on_road["AP"] == 1


def test_maps_that_lack_something(root, monkeypatch):
    log = root / "val" / LOG
    path = write_map(log, area=[(0, 0), (1, 0), (1, 1)])
    check_map(log)
    monkeypatch.setattr("pcperc.evaluation.argoverse2.require_av2", lambda: None)
    metric = Argoverse2Metric()
    data = Argoverse2(root=root, split="val")
    metric.dataset_meta = data.metainfo
    path.write_text('{"lane_segments": {}}')
    batch = collate([data[0]])
    with pytest.raises(ValueError, match=f"map .*{LOG}.*.json must have the layer 'drivable_areas'; in_map_only=False"):
        metric.process(batch, [truth(batch["samples"][0])])
    path.write_text('{"lane_seg')
    with pytest.raises(
        ValueError, match=f"map .*{LOG}.*.json cannot be read: .*; in_map_only=False scores without maps"
    ):
        check_map(log)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"map must have one log_map_archive_\*.json, got 0; in_map_only=False"):
        check_map(log)


def test_av2_is_asked_for_at_once(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "av2", None)
    monkeypatch.delitem(sys.modules, "av2.evaluation.detection.eval", raising=False)
    with pytest.raises(ImportError, match=r"av2 must be installed \(pip install 'pcperc\[argoverse2\]'\)"):
        Argoverse2Metric()
    assert Argoverse2Metric(output_dir=tmp_path, format_only=True).format_only


def test_detections_of_other_samples(root):
    pytest.importorskip("av2")
    found = [(f"{LOG}/{START + 1}", truth(collate([Argoverse2(root=root, split="val")[0]])["samples"][0]))]
    path = write_argoverse2_results(root / "found.feather", found, classes=CATEGORIES)
    with pytest.raises(ValueError, match=f"found.feather must hold .* got other samples, first {LOG}/{START + 1}"):
        evaluate_argoverse2(path, [f"{LOG}/{START}"], root=root, split="val")


def test_the_results_table_is_the_servers(root, tmp_path):
    data = Argoverse2(root=root, split="val")
    metric = Argoverse2Metric(output_dir=tmp_path, format_only=True)
    metric.dataset_meta = data.metainfo
    batch = collate([data[0], data[1]])
    metric.process(batch, [truth(sample) for sample in batch["samples"]])
    assert metric.evaluate(2) == {}
    columns = "log_id timestamp_ns category tx_m ty_m tz_m length_m width_m height_m qw qx qy qz score".split()
    table = read_table(tmp_path / "detections_av2.feather", columns)
    assert table["log_id"].tolist() == [LOG] * 2 and table["timestamp_ns"].tolist() == [START, START + STEP]
    np.testing.assert_allclose(table["qz"], np.sin(0.2), atol=1e-6)


def test_the_categories_are_the_official_ones():
    evaluation = pytest.importorskip("av2.evaluation")
    assert CATEGORIES == tuple(category.value for category in evaluation.SensorCompetitionCategories)
