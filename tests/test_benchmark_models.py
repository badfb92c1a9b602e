# SPDX-License-Identifier: Apache-2.0
"""tools/benchmark.py model, stages and clouds at toy size: what is measured, in graphs too, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from pcperc.benchmark.clouds import CloudOptions, measure_clouds
from pcperc.benchmark.config_model import measure_config
from pcperc.benchmark.first_call import measure_first_call
from pcperc.benchmark.macs import count_macs
from pcperc.benchmark.stages import measure_stages
from pcperc.benchmark.unet import CASES as MODEL_CASES
from pcperc.benchmark.unet import ModelOptions, measure_unet
from pcperc.engine.config import ConfigError
from pcperc.models.segmentor import Segmentor

ROOT = Path(__file__).parent.parent


def test_model_writes_every_value(sweep_file, tmp_path):
    out = tmp_path / "rows.json"
    options = {"input": sweep_file, "voxel_size": 0.5, "runs": 2, "device": "cpu", "json": out}
    measure_unet(ModelOptions(dtype=("float32", "bfloat16"), **options))
    rows = json.loads(out.read_text())["rows"]
    cases = [case for case in MODEL_CASES if case != "captured_inference"]  # which needs a GPU
    assert [row["case"] for row in rows] == [case for case in cases for _ in range(2)]
    for row in rows:
        assert set(row) >= {"library", "num_voxels", "median_ms", "p95_ms", "flop", "gflops", "peak_share", "peak_mib"}
        assert (row["error"] is None) == ("training" in row["case"])
        assert (row["error"] or 0) < (1e-5 if row["dtype"] == "float32" else 0.1)
        assert ("vs_inference" in row) == (row["case"] != "inference")
        assert ("vs_first_dtype" in row) == (row["dtype"] == "bfloat16")
    config = ROOT / "configs/bevfusion/demo.py"
    report = measure_config(ModelOptions(config=config, **options))
    (one,) = report.rows
    assert one["parameters"] > 1e6 and 0 < one["num_points"] < 400 and one["median_ms"] > 0
    assert one["map_ms"] > 0
    assert sum(layer["macs"] for layer in report.layers) == pytest.approx(one["gmacs"] * 1e9)
    kinds = {layer["kind"] for layer in report.layers if layer["macs"]}
    assert {"SubMConv3d", "Conv2d", "Linear", "MultiheadAttention"} <= kinds
    rows = measure_stages(ModelOptions(config=config, **options)).rows
    *parts, total = (row["median_ms"] for row in rows if row["case"] == "stage")
    assert len(parts) == 10 and min(parts) >= 0 and sum(parts) == pytest.approx(total)
    layers = [row for row in rows if row["case"] == "layer"]
    assert len(layers) == 10 and all(row["pairs"] > 0 and row["median_ms"] < total for row in layers)


def test_a_first_call_has_a_process_of_its_own(sweep_file):
    options = ModelOptions(input=sweep_file, voxel_size=2.0, runs=1, device="cpu", voxels=(50,), peers=("torchsparse",))
    (row,) = measure_first_call(options).rows
    assert row["num_voxels"] == 50 and min(row["median_ms"], row["second_ms"], row["third_ms"]) > 0


def test_networks_of_points_are_compared(tmp_path):
    configs = [ROOT / f"configs/pvcnn/{name}.py" for name in ("parts_demo", "modelnet40")]
    options = CloudOptions(configs, points=(32, 64), copies=(2,), runs=1, device="cpu", json=tmp_path / "out.json")
    report = measure_clouds(options)
    assert [(row["network"], row["num_points"], row["copies"], row["mode"]) for row in report.rows] == [
        (str(config), count, 2, "eager") for count in (32, 64) for config in configs
    ]
    assert report.rows[0]["parameters"] == 268_898 and "time_vs_first" not in report.rows[0]
    ours, other = report.rows[:2]
    assert other["time_vs_first"] == pytest.approx(other["median_ms"] / ours["median_ms"])
    assert {entry["reason"] for entry in report.not_measured} == {"graphs are captured on a GPU alone"}
    assert json.loads((tmp_path / "out.json").read_text())["rows"] == report.rows
    with pytest.raises(ConfigError, match="kitti_frustum.py: model must be a CloudSegmentor or CloudClassifier"):
        measure_clouds(CloudOptions([ROOT / "configs/pvcnn/kitti_frustum.py"], device="cpu"))


def test_fused_networks_of_points_are_compared():
    configs = [ROOT / f"configs/pvcnn/{name}.py" for name in ("parts_demo", "modelnet40")]
    options = {"points": (32,), "copies": (2,), "modes": ("eager",), "runs": 1, "device": "cpu"}
    plain, fused = (measure_clouds(CloudOptions(configs, fused=fused, **options)).rows for fused in (False, True))
    assert [row["fused"] for row in (*plain, *fused)] == [False, False, True, True]
    for one, other in zip(plain, fused, strict=True):
        assert other["median_ms"] > 0 and one["network"] == other["network"]
        assert other["parameters"] < one["parameters"]  # without those of the norms


@pytest.mark.gpu
@pytest.mark.parametrize("fused", [False, True])
def test_a_network_of_points_is_captured(fused):
    config = ROOT / "configs/pvcnn/parts_demo.py"
    rows = measure_clouds(CloudOptions([config], points=(256,), copies=(2,), runs=2, device="cuda", fused=fused)).rows
    assert [row["mode"] for row in rows] == ["eager", "graph"] and all(row["peak_mib"] > 0 for row in rows)
    assert rows[1]["launches"] <= rows[0]["launches"]


@pytest.mark.gpu
def test_a_frame_in_graphs_is_timed_by_its_graphs(sweep_file):
    options = {"input": sweep_file, "voxel_size": 0.5, "runs": 2, "device": "cuda", "cuda_graph": 1000}
    config = ROOT / "configs/bevfusion/demo.py"
    rows = measure_stages(ModelOptions(config=config, dtype=("float32", "tf32", "float16"), **options)).rows
    stages = ["data_preprocessor", "captured.camera.lift", "captured.lidar", "captured.read_out", "other", "total"]
    assert [row["stage"] for row in rows] == stages * 3
    (row,) = measure_config(ModelOptions(config=config, **options)).rows
    assert row["gmacs"] > 0.1 and row["launches"] > 0


@pytest.mark.gpu
def test_scans_are_segmented_in_a_graph(sweep_file):
    options = {"input": sweep_file, "voxel_size": 0.5, "runs": 2, "device": "cuda", "cuda_graph": 2000}
    config = ROOT / "configs/spvcnn.py"
    (row,) = measure_config(ModelOptions(config=config, dtype=("float16",), **options)).rows
    assert row["median_ms"] > 0
    stages = [row["stage"] for row in measure_stages(ModelOptions(config=config, **options)).rows]
    assert stages[-2:] == ["other", "total"]


@pytest.mark.parametrize(("measure", "where"), [(measure_config, "config_model"), (measure_stages, "stages")])
def test_segmenters_are_timed_in_graphs(measure, where, sweep_file, monkeypatch):
    captured = []
    monkeypatch.setattr(
        f"pcperc.benchmark.{where}.capture_model", lambda model, *, capacity: captured.append((type(model), capacity))
    )
    options = ModelOptions(input=sweep_file, voxel_size=0.5, runs=1, dtype=("float32",), device="cpu", cuda_graph=2000)
    rows = measure(replace(options, config=ROOT / "configs/spvcnn.py")).rows
    assert captured == [(Segmentor, 2000)] and rows and not any(row["case"] == "layer" for row in rows)


@pytest.mark.parametrize("measure", [measure_unet, measure_config, measure_stages])
def test_graphs_of_another_model_are_refused(measure, sweep_file, monkeypatch):
    monkeypatch.setattr("pcperc.benchmark.config_model.MODELS.build", None)  # before it is built
    config = None if measure is measure_unet else ROOT / "configs/pvcnn.py"
    with pytest.raises(ValueError, match="--cuda-graph: is for"):
        measure(ModelOptions(config=config, input=sweep_file, runs=1, device="cpu", voxel_size=0.5, cuda_graph=10))


@pytest.mark.parametrize("name", ["parts_demo", "kitti_frustum_demo"])
def test_models_of_clouds_are_timed_on_made_up_ones(name):
    options = ModelOptions(config=ROOT / f"configs/pvcnn/{name}.py", runs=1, device="cpu")
    (row,) = measure_config(options).rows
    assert row["num_points"] >= 1000 and row["median_ms"] > 0 and row["gmacs"] > 0.01


def test_work_is_counted_once_for_all_copies(monkeypatch):
    count = Mock(wraps=count_macs)
    monkeypatch.setattr("pcperc.benchmark.config_model.count_macs", count)
    config = ROOT / "configs/pvcnn/kitti_frustum_demo.py"
    one, two = measure_config(ModelOptions(config=config, runs=1, device="cpu", copies=(1, 2))).rows
    assert two["gmacs"] == 2 * one["gmacs"] and count.call_count == 1


@pytest.mark.parametrize(
    ("measure", "given"), [(measure_config, {"voxels": (100,)}), (measure_stages, {"peers": ("spconv",)})]
)
def test_what_the_model_of_a_config_does_not_take_is_refused(measure, given, sweep_file):
    config = ROOT / "configs/spvcnn.py"
    with pytest.raises(ValueError, match=f"--{next(iter(given))}: is not for the model of a config"):
        measure(ModelOptions(config=config, input=sweep_file, runs=1, device="cpu", **given))
