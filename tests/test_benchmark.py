# SPDX-License-Identifier: Apache-2.0
"""tools/benchmark.py at toy size: what its JSON holds, and that its float64 check sees a wrong layer."""

import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

import pcperc
import pcperc.nn as spnn
from pcperc.benchmark.clouds import CloudOptions, measure_clouds
from pcperc.benchmark.config_model import measure_config
from pcperc.benchmark.first_call import measure_first_call
from pcperc.benchmark.inputs import SWEEP_FILE, load_sweep, synthetic_points
from pcperc.benchmark.layers import Prepared, make_work
from pcperc.benchmark.libraries import Layer, Pcperc, open_libraries
from pcperc.benchmark.macs import count_macs
from pcperc.benchmark.op import OpOptions, measure_ops
from pcperc.benchmark.peer_unet import PeerUNet
from pcperc.benchmark.reference import relative_error
from pcperc.benchmark.stages import measure_stages
from pcperc.benchmark.unet import CASES as MODEL_CASES
from pcperc.benchmark.unet import ModelOptions, measure_unet
from pcperc.engine.config import ConfigError
from pcperc.models.minkunet import MinkUNet
from tests.damage import damage
from tests.ops.clouds import random_coords
from tests.tolerances import tolerances

ROOT = Path(__file__).parent.parent
ROW = {
    "case", "pass", "dtype", "channels", "copies", "library", "num_inputs", "num_outputs", "pairs", "median_ms",
    "p5_ms", "p95_ms", "runs", "ns_per_pair", "bytes", "gbs", "out_channels", "num_voxels", "roofline_share",
}  # fmt: skip
PRODUCTS = {"flop", "gflops", "peak_share"}


@pytest.fixture
def sweep_file(tmp_path):
    np.savez(tmp_path / "sweep.npz", pc=np.random.default_rng(0).uniform(0, 10, (400, 4)))
    return tmp_path / "sweep.npz"


def benchmark(*arguments):
    command = [sys.executable, "tools/benchmark.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_op_writes_every_value(sweep_file, tmp_path):
    out = tmp_path / "rows.json"
    done = benchmark(
        "op", "--input", sweep_file, "--voxel-size", 1, "--channels", 4, "--runs", 2, "--copies", 1, 2, "--json", out,
        "--device", "cpu", "--cases", "subm_k3", "inverse_k2s2", "max_pool_k2s2", "--peers", "spconv_triton",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert {"device", "threads", "commit", "torch", "pcperc", "python"} <= set(report["environment"])
    assert report["input"]["name"] == "sweep.npz"
    assert {"fma_gflops", "matmul_gflops", "peak_gflops", "copy_gbs"} == set(report["peaks"]["float32"])
    assert report["not_measured"][0]["library"] == "spconv_triton"
    assert len(report["rows"]) == 2 * 3 + 2 * 2 + 2 * 3  # copies x passes; the inverse layer has no map of its own
    for row in report["rows"]:
        assert set(row) >= ROW and ("error" in row) == (row["pass"] != "map")
        assert (set(row) >= PRODUCTS) == (row["case"] != "max_pool_k2s2" and row["pass"] != "map")
        assert row.get("error", 0) < 1e-5
        assert ("vs_fewest_copies" in row) == (row["copies"] == 2)
    one, two = (row for row in report["rows"] if (row["case"], row["pass"]) == ("subm_k3", "forward"))
    assert (two["pairs"], two["num_outputs"]) == (2 * one["pairs"], 2 * one["num_outputs"])
    assert one["flop"] == 2 * one["pairs"] * 4 * 4
    assert one["gflops"] == pytest.approx(one["flop"] / one["median_ms"] / 1e6)
    assert "subm_k3" in done.stdout and "not measured, 1 x spconv_triton" in done.stdout


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


def test_op_measures_other_channels_and_sizes(sweep_file):
    channels, cases = [(4, 8)], ("down_k3s2", "inverse_k3s2", "max_pool_k2s2")
    options = {"input": sweep_file, "voxel_size": 1.0, "runs": 1, "device": "cpu", "passes": ("forward_backward",)}
    rows = measure_ops(OpOptions(cases=cases, channels=channels, voxels=(100, 900), **options)).rows
    assert [(row["case"], row["num_voxels"]) for row in rows] == [(case, n) for n in (100, 900) for case in cases[:2]]
    for row in rows:
        assert (row["channels"], row["out_channels"]) == (4, 8) and row["error"] < 1e-5
        assert row["flop"] == 3 * 2 * row["pairs"] * 4 * 8 and ("slope" in row) == (row["num_voxels"] == 900)


def test_a_first_call_has_a_process_of_its_own(sweep_file):
    options = ModelOptions(input=sweep_file, voxel_size=2.0, runs=1, device="cpu", voxels=(50,), peers=("torchsparse",))
    (row,) = measure_first_call(options).rows
    assert row["num_voxels"] == 50 and min(row["median_ms"], row["second_ms"], row["third_ms"]) > 0


def test_wrong_gradients_are_seen(sweep_file):
    coords = load_sweep(sweep_file, 1.0).coords
    for case in ("subm_k3", "down_k2s2", "inverse_k3s2"):
        prepared = Prepared(Pcperc(), make_work(case, coords, 4, 6, torch.float64)[0])
        assert prepared.error("forward_backward") < 1e-12
        grads = prepared.forward_backward()
        for wrong in range(2):  # the gradient of the features, then of the weight
            prepared.forward_backward = lambda wrong=wrong, grads=grads: [
                grad * (1.01 if number == wrong else 1) for number, grad in enumerate(grads)
            ]
            assert prepared.error("forward_backward") > 1e-3


def test_an_unknown_library_is_named():
    with pytest.raises(ValueError, match="peers must be of spconv, spconv_triton, torchsparse, got me"):
        open_libraries(["me"])


def test_a_file_that_is_no_sweep_is_named_beside_what_is_expected(tmp_path):
    np.savez(tmp_path / "other.npz", points=np.zeros((3, 3)))
    np.savez(tmp_path / "flat.npz", pc=np.zeros(3))
    np.savez(tmp_path / "nan.npz", pc=np.full((3, 3), np.nan))
    np.savez(tmp_path / "objects.npz", pc=np.array([[{}, 1, 2]], object))
    np.save(tmp_path / "array.npy", np.zeros((3, 3)))
    whole = (tmp_path / "other.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez_compressed(tmp_path / "damaged.npz", pc=np.random.default_rng(0).integers(0, 100, (300, 3)))
    damage(tmp_path / "damaged.npz")
    got = {"other.npz": r"\['points'\]", "flat.npz": r"pc \(3,\) float64", "nan.npz": "NaN or infinity"}
    got |= {"objects.npz": "one that cannot be read", "array.npy": "something else", "cut.npz": "something else"}
    got |= {"damaged.npz": "one that cannot be read .*decompressing"}
    for name, said in got.items():
        with pytest.raises(
            ValueError, match=rf"{name}: a sweep must be an .npz with pc \(N, 3 or more\).*, got.*{said}"
        ):
            load_sweep(tmp_path / name, 0.1)


def test_a_missing_sweep_ends_the_tool_in_one_line(tmp_path):
    missing = tmp_path / "missing.npz"
    done = benchmark("op", "--input", missing, "--device", "cpu")
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {missing}: no such file; a sweep must be {SWEEP_FILE}"


def test_a_sweep_is_distinct_voxels_from_zero(sweep_file, monkeypatch):
    coords = load_sweep(sweep_file, 1.0).copies(3)
    assert len(torch.unique(coords, dim=0)) == len(coords) and int(coords[:, 1:].min()) == 0
    assert coords[:, 0].bincount().tolist() == [len(coords) // 3] * 3
    monkeypatch.delenv("PCPERC_REALDATA", raising=False)
    assert load_sweep(None, 2.0).name == "synthetic sweep"
    assert (np.linalg.norm(synthetic_points(azimuths=90)[:, :2], axis=1) < 80).all()


class Mirror(Pcperc):
    """A peer that is pcperc itself, its features moved to other rows and back."""

    name = "mirror"

    def tensor(self, coords, feats):
        return super().tensor(coords.flip(0), feats.flip(0))


def test_a_peer_network_computes_the_same(sweep_file):
    coords = load_sweep(sweep_file, 1.0).coords
    feats = torch.randn(len(coords), 4)
    net = MinkUNet(4, width=0.25).eval()
    peer = PeerUNet(Mirror(), net).eval()
    with torch.no_grad():
        ours, theirs = net(pcperc.SparseTensor(coords, feats)).feats, peer(Mirror().tensor(coords, feats)).feats.flip(0)
    torch.testing.assert_close(theirs, ours, **tolerances(torch.float32, 1000))


@pytest.mark.parametrize("kind", ["submanifold", "strided", "inverse", "max_pool"])
def test_the_float64_check_sees_a_wrong_layer(kind):
    """Against our own convolutions, which tests/nn compares with torch.nn.Conv3d."""
    x = pcperc.SparseTensor(random_coords(300), torch.randn(len(random_coords(300)), 4))
    down = spnn.SparseConv3d(4, 4, 3, stride=2, padding=1, bias=False)
    layer = {
        "submanifold": (Layer("submanifold", 3), x, spnn.SubMConv3d(4, 6, 3, bias=False)),
        "strided": (Layer("strided", 3, 2, 1), x, down),
        "inverse": (Layer("inverse", 3, 2, 1), down(x), spnn.SparseInverseConv3d(4, 5, 3, bias=False)),
        "max_pool": (Layer("max_pool", 3, 2, 1), x, spnn.SparseMaxPool3d(3, 2, 1)),
    }
    words, source, module = layer[kind]
    out = module(source)
    places = {"in_coords": source.coords, "in_feats": source.feats, "out_coords": out.coords}
    weight = None if kind == "max_pool" else module.tap_weights
    assert relative_error(words, weight, **places, out_feats=out.feats) < 1e-6
    if weight is not None:
        assert relative_error(words, weight.flip(0), **places, out_feats=out.feats) > 0.1
    shifted = torch.cat([out.feats[1:], out.feats[:1]])
    assert relative_error(words, weight, **places, out_feats=shifted) > 0.1


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


@pytest.mark.gpu
def test_a_network_of_points_is_captured():
    config = ROOT / "configs/pvcnn/parts_demo.py"
    rows = measure_clouds(CloudOptions([config], points=(256,), copies=(2,), runs=2, device="cuda")).rows
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


@pytest.mark.parametrize("measure", [measure_unet, measure_config, measure_stages])
def test_graphs_of_another_model_are_refused(measure, sweep_file, monkeypatch):
    monkeypatch.setattr("pcperc.benchmark.config_model.MODELS.build", None)  # before it is built
    config = None if measure is measure_unet else ROOT / "configs/spvcnn.py"
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
