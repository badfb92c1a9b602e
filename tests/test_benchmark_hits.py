# SPDX-License-Identifier: Apache-2.0
"""Programs that time and compare networks of calorimeter hits, at toy size; times themselves are not asserted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pcperc.benchmark.clusterers import RESULTS_NAME, CompareOptions, compare_clusterers, format_comparison
from pcperc.benchmark.hits import HitsOptions, crowded, measure_hits
from pcperc.engine.config import ConfigError
from tests.calorimeter_events import made_event, write_arrays


def test_more_hits_of_an_event():
    hits = made_event(np.random.default_rng(0), 2)["hits"]
    for count in (0, 10, len(hits), 150):
        found = crowded(hits, count)
        assert found.shape == (count, 9) and (found == crowded(hits, count)).all()
        np.testing.assert_allclose(np.sort(found[:60, 0]), np.sort(hits[:, 0]) if count >= 60 else np.sort(found[:, 0]))
    # Copies are turned about the beam: another place, the same depth and distance.
    copy = found[60:120]
    assert np.sort(copy[:, 7]) == pytest.approx(np.sort(hits[:, 7]), rel=1e-6)
    assert np.sort(np.hypot(*copy[:, 5:7].T)) == pytest.approx(np.sort(np.hypot(*hits[:, 5:7].T)), rel=1e-5)
    assert np.abs(np.sort(copy[:, 5]) - np.sort(hits[:, 5])).max() > 1


def test_times_of_files_and_of_numbers_of_hits(tmp_path, capsys):
    event = write_arrays(tmp_path / "event.npz", **made_event(np.random.default_rng(0), 2))
    options = HitsOptions([Path("configs/calo_spvcnn.py")], [event], runs=1, device="cpu", json=tmp_path / "out.json")
    (row,) = measure_hits(options).rows
    assert row["hits"] == 60 and row["network"] == "calo_spvcnn" and row["event"] == "event.npz"
    assert row["median_ms"] >= row["clustering_ms"] >= 0 and row["cpu_ms"] > 0
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["rows"] == [row] and "torch" in written["environment"]
    report = measure_hits(HitsOptions(options.models, [event], hits=(90, 30), runs=1, max_seconds=0.0, device="cpu"))
    assert [row["hits"] for row in report.rows] == [30]  # any time is longer than none, so 90 are left out
    assert "more hits than took 0 s" in capsys.readouterr().out


def test_networks_that_are_trained_alike(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for split in ("sim_train", "sim_test"):
        for index in range(2):
            write_arrays(tmp_path / "data" / split / f"{index}.npz", **made_event(rng, 2))
    overrides = {
        "data_root": str(tmp_path / "data"),
        "train_cfg.max_epochs": 1,
        "train_dataloader.batch_size": 2,
        "model.data_preprocessor.voxel_size": 4.0,
        **{f"{loader}_dataloader.{key}": 0 for loader in ("train", "test") for key in ("num_workers",)},
        **{f"{loader}_dataloader.persistent_workers": False for loader in ("train", "test")},
        **{f"{loader}_dataloader.pin_memory": False for loader in ("train", "test")},
    }
    configs = [Path("configs/calo/gravnet.py")]
    options = CompareOptions(
        configs, seeds=(3, 4), batches=(1, 2), runs=1, work_dir=tmp_path / "work", overrides=overrides, device="cpu"
    )
    found = compare_clusterers(options, simulate=None)
    assert [(run["network"], run["seed"]) for run in found["runs"]] == [("gravnet", 3), ("gravnet", 4)]
    assert [(row["device"], row["batch"]) for row in found["speed"]] == [("cpu", 1), ("cpu", 2)]
    assert json.loads((tmp_path / "work" / RESULTS_NAME).read_text()) == json.loads(json.dumps(found))
    printed = capsys.readouterr().out
    assert "simulated (GFlash)" in printed and "the talk, on other data" in printed and "finished in" in printed
    # What is finished is not trained again.
    again = compare_clusterers(options, simulate=None)
    assert [run["scores"] for run in again["runs"]] == [run["scores"] for run in found["runs"]]
    assert "finished in" not in capsys.readouterr().out
    # But not taken for one that was trained longer.
    longer = replace(options, overrides={**overrides, "train_cfg.max_epochs": 2})
    with pytest.raises(
        ConfigError, match=r"gravnet_seed3/epoch_1.pth: was trained otherwise, train_cfg.max_epochs: 2 h"
    ):
        compare_clusterers(longer, simulate=None)


def test_mean_and_deviation_over_seeds():
    runs = [
        {"network": name, "seed": seed, "scores": {"hits/PQ": 0.5 + 0.1 * seed}}
        for seed in (0, 1, 2)
        for name in ("spvcnn", "gravnet")
    ]
    speed = [{"network": "spvcnn", "device": "cuda", "batch": b, "events_per_s": 10.0 * b} for b in (1, 4)]
    text = format_comparison({"runs": runs, "speed": speed})
    row = next(line for line in text.splitlines() if "spvcnn" in line)
    assert "60.0 +- 10.0" in row and "10.00" in row and "40.00" in row
    assert "3 seeds" in text
