# SPDX-License-Identifier: Apache-2.0
"""The comparison of detectors: a recipe of two stages by the real tools, times of stages, options."""

import importlib
import io
import json
import os
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

from pcperc.benchmark import detectors
from pcperc.benchmark.detector_options import BOTH, CONFIGS, PUBLISHED, CompareOptions
from pcperc.benchmark.detector_stages import COLUMNS, DTYPES, compare_stages
from pcperc.benchmark.detector_tracking import tracked_boxes
from pcperc.benchmark.detectors import compare_detectors
from pcperc.engine.config import ConfigError, load_config
from pcperc.engine.data import DataMissing
from pcperc.files import only_writer
from tests.in_process import run_in_process
from tests.nuscenes_root import write_tiny_root

TINY = {
    "lidar_only": Path("tests/engine/tiny_joint_config.py"),
    "lidar_longer": Path("tests/engine/tiny_joint_second_config.py"),
}


def test_a_recipe_by_the_real_tools_stopped_failed_and_again(tmp_path, monkeypatch, capsys):
    in_process = run_in_process(monkeypatch)
    root, work = write_tiny_root(tmp_path / "set"), tmp_path / "work"
    overrides = {"data_root": str(root), "train_dataloader.batch_size": 3}  # one iteration
    options = CompareOptions(
        ("detection", "variants", "tracking"),
        seeds=(3,),
        work_dir=work,
        overrides=overrides,
        device="cpu",
        configs=TINY,
    )
    in_process.stopped = "lidar_longer_seed3"
    with pytest.raises(KeyboardInterrupt):
        compare_detectors(options, simulate=None)
    (row,) = json.loads((work / detectors.RESULTS_NAME).read_text())["rows"]  # what there is, also where it is stopped
    assert (row["network"], row["seed"], row["blank_images"], row["iterations"]) == ("lidar_only", 3, False, 1)
    in_process.stopped, in_process.fails = "", "lidar_longer_seed3"
    with pytest.raises(RuntimeError, match="4 runs failed, first lidar_longer_seed3: ended with status 7"):
        compare_detectors(options, simulate=None)
    in_process.fails = ""
    in_process.commands.clear()
    capsys.readouterr()
    found = compare_detectors(options, simulate=None)
    assert [command[1].split("/")[1] for command in in_process.commands] == ["train.py", "test.py", *["track.py"] * 2]
    assert f"--load-from {row['checkpoint']}" in " ".join(map(str, in_process.commands[0]))
    rows = {row["network"]: row for row in found["rows"]}
    assert {name: row["first_stages"] for name, row in rows.items()} == {
        "lidar_only": {},
        "lidar_longer": {"lidar_only": 1},
    }
    assert rows["lidar_longer"]["train_s"] > 0 and rows["lidar_only"]["train_s"] is None  # how long this call took
    assert 0 <= rows["lidar_longer"]["scores"]["NDS"] <= 1 and BOTH.scores(Path(row["checkpoint"])) is None
    tracked = {(row["boxes"], row["tracker"]): row["scores"]["AMOTA"] for row in found["tracking"]}
    assert set(tracked) == {(boxes, name) for boxes in ("lidar_longer", "truth") for name in ("greedy", "kalman")}
    assert tracked["truth", "greedy"] == tracked["truth", "kalman"] == 1
    assert capsys.readouterr().out.count("simulated, REACHED: AMOTA of") == 2
    # Boxes that are newer than their tracks are tracked anew, a newer checkpoint is scored anew.
    checkpoint = Path(rows["lidar_longer"]["checkpoint"])
    results = checkpoint.with_suffix("") / "results_nusc.json"
    training = detectors._networks(options)["lidar_longer"].trainings[3]
    cfgs = {"lidar_longer": load_config(TINY["lidar_longer"])}
    tracks = list(tracked_boxes(options, [("lidar_longer", training)], cfgs))
    os.utime(results, (results.stat().st_mtime + 100,) * 2)
    assert [run.scores() is None for run in tracks] == [True, True, False, False] and training.scores() is not None
    os.utime(checkpoint, (results.stat().st_mtime + 100,) * 2)
    assert training.scores() is None


def test_stages_of_every_network_on_every_device(sweep_file, tmp_path, device, capsys):
    published = [Path(f"configs/bevfusion/{name}.py") for name in ("lidar_only_demo", "joint_demo")]
    options = CompareOptions(
        stages=True, runs=1, input=sweep_file, work_dir=tmp_path, device=device.type, published=published
    )
    found = compare_stages(options)
    assert json.loads((tmp_path / "stages.json").read_text()) == found
    devices = list(dict.fromkeys((device.type, "cpu")))
    assert list(found["environment"]) == devices and found["input"]["points"] > 0
    totals = [row for row in found["rows"] if row["stage"] == "total"]
    kinds = [(row["device"], row["config"], row["dtype"]) for row in totals]
    assert kinds == [(d, str(path), DTYPES[d]) for d in devices for path in published]
    assert totals[1]["parameters"] > totals[0]["parameters"] > 100_000
    for total in totals:
        own = [row for row in found["rows"] if all(row[key] == total[key] for key in ("device", "config"))]
        assert sum(row["median_ms"] for row in own[:-1]) == pytest.approx(total["median_ms"])
        assert {row["stage"] for row in own} <= {stage for stages in COLUMNS.values() for stage in stages}
    assert capsys.readouterr().out.count("ms of a prediction by stages") == len(devices)
    with only_writer(tmp_path, "comparing"), pytest.raises(OSError, match="another process is comparing there"):
        compare_stages(options)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seeds": ()}, "--seeds must be one or more different numbers"),
        ({"parts": ("maps", "boxes")}, "--parts must be of detection, maps, variants, tracking, got 'boxes'"),
        ({"jobs": 0}, "--jobs must be 1 or more, got 0"),
        ({"runs": 3}, "--runs changes nothing without --stages"),
        ({"input": Path("sweep.bin")}, "--input changes nothing without --stages"),
        ({"overrides": {"seed": 3}}, "--cfg-options seed: --seeds says that"),
        ({"overrides": {"modell": 3}}, "--cfg-options modell: .*lidar_only_simulated.py has no key .modell. there"),
    ],
)
def test_options_out_of_range(tmp_path, change, message):
    options = replace(CompareOptions(work_dir=tmp_path, device="cpu"), **change)
    with pytest.raises(ConfigError, match=message):
        compare_detectors(options, simulate=None)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"runs": 0}, "--runs must be 1 or more, got 0"),
        ({"jobs": 2}, "--jobs changes nothing beside --stages"),
        ({"seeds": [3]}, "--seeds changes nothing beside --stages"),
        ({"networks": ["fusion"]}, "--networks changes nothing beside --stages"),
        ({"parts": ["maps"]}, "--parts changes nothing beside --stages"),
        ({"amp": True}, "--amp changes nothing beside --stages"),
        ({"overrides": {"model.x": 3}}, "--cfg-options changes nothing beside --stages"),
    ],
)
def test_options_of_stages_out_of_range(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        compare_stages(replace(CompareOptions(work_dir=tmp_path, device="cpu", stages=True), **change))


def test_no_data_and_nothing_to_simulate_it_with(tmp_path):
    options = CompareOptions(work_dir=tmp_path / "work", overrides={"data_root": str(tmp_path / "none")}, device="cpu")
    with pytest.raises(DataMissing, match="data_root .*/none is missing, and nothing is simulated in a folder"):
        compare_detectors(options, simulate=pytest.fail)


def test_help_of_the_command_is_the_options():
    tool = importlib.import_module("tools.compare_detectors")
    before, sys.argv = sys.argv, ["compare_detectors.py", "--parts", "maps", "--seeds", "0", "--cfg-options", "a.b=1"]
    with redirect_stdout(io.StringIO()):
        options = CompareOptions(**vars(tool.parse_arguments()))
    sys.argv = before
    assert options == CompareOptions(parts=["maps"], seeds=[0], overrides={"a.b": 1})
    assert all(path.is_file() for path in (*CONFIGS.values(), *PUBLISHED))
