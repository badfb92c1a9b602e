# SPDX-License-Identifier: Apache-2.0
"""tools/benchmark.py op at toy size: its JSON, its sweeps and peers, and that its float64 check sees a wrong layer."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import pcperc
import pcperc.nn as spnn
from pcperc.benchmark.inputs import SWEEP_FILE, load_sweep, synthetic_points
from pcperc.benchmark.layers import Prepared, make_work
from pcperc.benchmark.libraries import Layer, Pcperc
from pcperc.benchmark.op import OpOptions, measure_ops
from pcperc.benchmark.peer_libraries import open_libraries
from pcperc.benchmark.peer_unet import PeerUNet
from pcperc.benchmark.reference import relative_error
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


def test_op_measures_other_channels_and_sizes(sweep_file):
    channels, cases = [(4, 8)], ("down_k3s2", "inverse_k3s2", "max_pool_k2s2")
    options = {"input": sweep_file, "voxel_size": 1.0, "runs": 1, "device": "cpu", "passes": ("forward_backward",)}
    rows = measure_ops(OpOptions(cases=cases, channels=channels, voxels=(100, 900), **options)).rows
    assert [(row["case"], row["num_voxels"]) for row in rows] == [(case, n) for n in (100, 900) for case in cases[:2]]
    for row in rows:
        assert (row["channels"], row["out_channels"]) == (4, 8) and row["error"] < 1e-5
        assert row["flop"] == 3 * 2 * row["pairs"] * 4 * 8 and ("slope" in row) == (row["num_voxels"] == 900)


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
