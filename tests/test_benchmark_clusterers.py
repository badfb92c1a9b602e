# SPDX-License-Identifier: Apache-2.0
"""The comparison of networks of calorimeter hits at toy size, stopped, failed and resumed; times are not asserted."""

import importlib
import io
import json
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pcperc.benchmark import clusterers, hits
from pcperc.benchmark.clusterer_events import format_events
from pcperc.benchmark.clusterers import CompareOptions, compare_clusterers, compare_speed, format_comparison
from pcperc.benchmark.scores import Test
from pcperc.benchmark.timing import call_ms
from pcperc.benchmark.training_jobs import Training
from pcperc.engine.config import ConfigError
from pcperc.files import only_writer
from tests.calorimeter_events import made_event, write_arrays, write_events
from tests.in_process import run_in_process

CALO = Test(("calo",))
SPVCNN, GRAVNET = Path("configs/calo_spvcnn.py"), Path("configs/calo/gravnet.py")


@pytest.fixture
def in_process(monkeypatch):
    return run_in_process(monkeypatch)


def test_comparison_that_is_stopped_fails_and_goes_on(tmp_path, in_process, capsys):
    work = tmp_path / "work"
    options = CompareOptions(
        [GRAVNET], seeds=(3, 4), epochs=1, batches=(1, 2), runs=1, work_dir=work,
        overrides=write_events(tmp_path / "data"), device="cpu",
    )  # fmt: skip
    in_process.stopped = "gravnet_seed4"
    with pytest.raises(KeyboardInterrupt):
        compare_clusterers(options, simulate=None)
    weights = (work / "gravnet_seed3/epoch_1.pth").stat().st_mtime_ns
    in_process.stopped, in_process.fails = "", "gravnet_seed4"
    message = r"2 runs failed, first gravnet_seed4: ended with status 7, .*the same command tries them again"
    with pytest.raises(RuntimeError, match=message):
        compare_clusterers(options, simulate=None)
    written = json.loads((work / clusterers.RESULTS_NAME).read_text())
    assert [run["seed"] for run in written["runs"]] == [3] and len(written["speed"]) == 2
    in_process.fails = ""
    in_process.commands.clear()
    capsys.readouterr()
    found = compare_clusterers(options, simulate=None)
    assert [command[1] for command in in_process.commands] == ["tools/train.py", "tools/test.py"]
    assert (work / "gravnet_seed3/epoch_1.pth").stat().st_mtime_ns == weights
    assert [(run["network"], run["seed"], run["iterations"]) for run in found["runs"]] == [
        ("gravnet", 3, 1),
        ("gravnet", 4, 1),
    ]
    assert found["runs"][0]["train_s"] is None and found["runs"][1]["train_s"] > 0  # how long this call took
    assert all(0 <= run["scores"]["hits/PQ"] <= 1 for run in found["runs"])
    assert [(row["device"], row["batch"], row["threads"]) for row in found["speed"]] == [
        ("cpu", batch, torch.get_num_threads()) for batch in (1, 2)
    ]
    assert json.loads((work / clusterers.RESULTS_NAME).read_text()) == json.loads(json.dumps(found))
    printed = capsys.readouterr().out
    assert "simulated (GFlash)" in printed and "the talk, on other data" in printed and "clustering" in printed
    in_process.commands.clear()
    again = compare_clusterers(options, simulate=None)
    assert not in_process.commands
    assert [run["scores"] for run in again["runs"]] == [run["scores"] for run in found["runs"]]
    # What was trained otherwise is not taken for it.
    for change, difference in (({"epochs": 2}, "train_cfg.max_epochs: 2 here"), ({"amp": True}, "optim_wrapper.amp")):
        with pytest.raises(
            ConfigError, match=rf"seed3/epoch_1.pth: was trained otherwise, {difference}.*another --work"
        ):
            compare_clusterers(replace(options, **change), simulate=None)
    # Nor are scores on other events: test.py goes by the checkpoint's own config.
    elsewhere = {**options.overrides, "test_dataloader.dataset.split": "sim_train"}
    message = r"seed3/epoch_1.pth: is tested otherwise, test_dataloader.dataset.split: 'sim_train' here, 'sim_test' th"
    with pytest.raises(ConfigError, match=message):
        compare_clusterers(replace(options, overrides=elsewhere), simulate=None)
    faster = {**options.overrides, "test_dataloader.num_workers": 1}
    compare_clusterers(replace(options, overrides=faster), simulate=None)
    assert not in_process.commands


def test_trained_network_on_files_of_events(tmp_path, in_process, capsys, device):
    work = tmp_path / "work"
    overrides = write_events(tmp_path / "data") | {"model.backbone.width": 0.0625}
    options = CompareOptions(
        [SPVCNN], seeds=(0,), epochs=1, batches=(1,), runs=1, work_dir=work, overrides=overrides, device=device.type
    )
    devices = list(dict.fromkeys((device.type, "cpu")))
    ways = [("cuda", "eager"), ("cuda", "graph"), ("cpu", "eager")]
    speed = compare_clusterers(options, simulate=None)["speed"]
    assert [(row["device"], row["how"]) for row in speed] == [way for way in ways if way[0] in devices]
    event = made_event(np.random.default_rng(1), 3)["hits"]
    files = [write_arrays(tmp_path / "rec.npz", rechits=event), write_arrays(tmp_path / "none.npz", rechits=event[:0])]
    capsys.readouterr()
    found = compare_speed(replace(options, events=files))
    assert [(row["device"], row["event"], row["hits"]) for row in found["rows"]] == [
        (kind, name, count) for kind in devices for name, count in (("rec.npz", 80), ("none.npz", 0))
    ]
    for row in found["rows"]:
        assert row["median_ms"] >= row["clustering_ms"] >= 0 and row["mean_shift_ms"] > 0
    assert found["rows"][1]["clusters"] == found["rows"][1]["mean_shift_clusters"] == 0
    assert json.loads((work / "events.json").read_text())["rows"] == found["rows"]
    printed = capsys.readouterr().out
    assert "mean_shift_ms" in printed and "hits_per_s" in printed and printed.count("REACHED on ") == len(devices)
    with pytest.raises(
        ConfigError, match="calo_spvcnn_seed9: no finished training; the same command without --events makes one"
    ):
        compare_speed(replace(options, events=files, seeds=(9,)))
    with pytest.raises(FileNotFoundError, match=r"absent\.npz is missing"):
        compare_speed(replace(options, events=[tmp_path / "absent.npz"]))
    with only_writer(work, "comparing"), pytest.raises(OSError, match="another process is comparing there"):
        compare_speed(replace(options, events=files))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seeds": ()}, "--seeds must be one or more different numbers"),
        ({"seeds": (1, 1)}, "--seeds must be one or more different numbers, got .1, 1."),
        ({"configs": (GRAVNET, Path("other/gravnet.py"))}, "CONFIG must be one or more files of different names"),
        ({"jobs": 0}, "--jobs must be 1 or more, got 0"),
        ({"runs": 0}, "--runs must be 1 or more, got 0"),
        ({"epochs": 0}, "--epochs must be 1 or more, got 0"),
        ({"batches": (1, 0)}, "--batches must be one or more numbers >= 1, got .1, 0."),
        ({"epochs": 2, "overrides": {"train_cfg.max_epochs": 3}}, "--epochs and --cfg-options train_cfg.max_epochs"),
        *(
            ({"rates": rates}, rf"--rates must be finite, > 0 and different, got \[{text}\]")
            for rates, text in (
                ((1e-3, 0.0), "0.001, 0.0"),
                ((-1e-3,), "-0.001"),
                ((float("nan"), 1e-3), "nan, 0.001"),
                ((float("inf"),), "inf"),
                ((1e-3, 2e-3, 1e-3), "0.001, 0.002, 0.001"),
            )
        ),
        (
            {"rates": (1e-3,), "overrides": {"optim_wrapper.optimizer.lr": 1e-3}},
            "--rates and --cfg-options optim_wrapper.optimizer.lr must not both be given",
        ),
        ({"rates_split": "a/sim_val"}, "--rates-split must name a split of the data set, got 'a/sim_val'"),
    ],
)
def test_options_out_of_range(tmp_path, change, message):
    options = replace(CompareOptions([GRAVNET], work_dir=tmp_path / "work", device="cpu"), **change)
    for compare in (lambda: compare_clusterers(options, simulate=None), lambda: compare_speed(options)):
        with pytest.raises(ConfigError, match=message):
            compare()
    assert not (tmp_path / "work").exists()


def test_commands_of_trainings_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr("pcperc.benchmark.training_jobs.num_cores", lambda: 32)
    overrides = {"data_root": "a/b", "train_cfg.max_epochs": 7, "model.data_preprocessor.voxel_size": [1.0, 2.0, 4.0]}
    training = Training(GRAVNET, tmp_path / "gravnet_seed1", 1, overrides, (CALO,), amp=True, side_by_side=12)
    (train, test) = training.jobs()
    assert train.command() == [
        "tools/train.py", GRAVNET, "--resume", "--work-dir", tmp_path / "gravnet_seed1", "--seed", 1, "--amp",
        "--cfg-options", "train_dataloader.num_workers=1", "data_root=a/b", "train_cfg.max_epochs=7",
        "model.data_preprocessor.voxel_size=[1.0,2.0,4.0]",
    ]  # fmt: skip
    assert test.needs == ("gravnet_seed1",) and not test.is_done()
    with pytest.raises(ConfigError, match="gravnet_seed1: no finished training yet"):
        test.command()
    alone = Training(GRAVNET, tmp_path / "gravnet_seed1", 1, {}, (CALO,), side_by_side=6)
    assert alone.jobs()[0].command()[-2:] == ["--seed", 1]  # four loader processes fit into a sixth of the cores


def test_trainings_of_one_network_are_spread_over_the_devices(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr(clusterers.JobQueue, "run", lambda queue, jobs: names.extend(job.name for job in jobs) or {})
    options = CompareOptions([SPVCNN, GRAVNET], seeds=(1, 2), work_dir=tmp_path, overrides=write_events(tmp_path / "d"))
    compare_clusterers(replace(options, device="cpu"), simulate=None)
    assert [name for name in names if "scores" not in name] == [
        f"{config.stem}_seed{seed}" for config in (SPVCNN, GRAVNET) for seed in (1, 2)
    ]


def test_graphs_have_room_for_the_largest_event_of_each_batch(tmp_path, monkeypatch):
    capacities = []
    monkeypatch.setattr(clusterers, "load_network", lambda path, device, cuda_graph: capacities.append(cuda_graph))
    timed = []

    def time_batch(model, events, **how):
        timed.append([len(hits) for hits in events])
        return {"events": len(events), "hits": sum(timed[-1]), "median_ms": 2.0}

    monkeypatch.setattr(hits, "time_batch", time_batch)
    overrides = write_events(tmp_path)
    large = write_arrays(tmp_path / "sim_test" / "2.npz", **made_event(np.random.default_rng(1), 4))
    options = CompareOptions([SPVCNN], batches=(1, 3), overrides=overrides)
    training = SimpleNamespace(config=SPVCNN, trained=lambda: None)
    rows = clusterers._speed(options, training, torch.device("cuda"))
    most = len(np.load(large)["hits"])
    assert capacities == [None, None, most, 3 * most] and all(sum(batch) < 3 * most for batch in timed)
    assert [(row["how"], row["batch"]) for row in rows] == [("eager", 1), ("eager", 3), ("graph", 1), ("graph", 3)]
    # Each size sees the same events: the three there are, again and again, eight or as many as fill whole batches.
    alone, together = timed[:8], timed[8:11]
    assert [len(batch) for batch in alone] == [1] * 8 and [len(batch) for batch in together] == [3] * 3
    assert sum(together, [])[:8] == sum(alone, []) and len(set(map(tuple, alone))) > 1
    assert rows[0]["median_ms"] == 16 and rows[0]["events_per_s"] == 500 and rows[1]["events_per_s"] == 1500
    assert rows[1]["hits_per_s"] == pytest.approx(1e3 * sum(map(sum, together)) / 6)


def test_mean_and_deviation_over_seeds():
    runs = [
        {"network": name, "rate": rate, "seed": seed, "iterations": 480, "scores": {"hits/PQ": 0.5 + 0.1 * seed}}
        for seed in (0, 1, 2)
        for name, rate in (("spvcnn", 2e-3), ("gravnet", 5e-4))
    ]
    speed = [
        {"network": "spvcnn", "device": "cuda", "how": how, "batch": batch, "events_per_s": rate * batch}
        for how, rate in (("eager", 10.0), ("graph", 30.0))
        for batch in (1, 4)
    ]
    text = format_comparison({"runs": runs, "speed": speed, "trials": []})
    row = next(line for line in text.splitlines() if "spvcnn" in line)
    assert "0.002" in row and "0.0005" in next(line for line in text.splitlines() if "gravnet" in line)
    assert "validation" not in text
    assert "60.0 +- 10.0" in row and row.split()[-8:-1:2] == ["10.00", "30.00", "40.00", "120.00"]
    assert "cuda graph 1" in text and "cuda graph best" in text
    assert "480 iterations" in text and "3 seeds" in text and "clustering included" in text.replace("\n", " ")


def test_verdicts_on_the_slowest_event():
    words = {"event": "a.npz", "hits": 10, "hits_per_s": 1.0, "clusters": 1, "mean_shift_clusters": 2}
    times = dict.fromkeys(("network_ms", "clustering_ms", "cpu_ms", "mean_shift_ms"), 1.0)
    slowest = {"cuda": (20.0, 100.0), "cpu": (1900.0, 2000.1)}
    rows = [{"device": device, "median_ms": ms, **words, **times} for device, both in slowest.items() for ms in both]
    text = format_events({"checkpoint": "a.pth", "rows": rows, "environment": {"cuda": {}, "cpu": {"threads": 2}}})
    assert "\nREACHED on cuda: 100.0 ms at the most, asked for 100 ms" in text
    assert "NOT REACHED on cpu, 2 threads (asked for on 2 cores): 2000.1 ms at the most, asked for 2000 ms" in text


def test_help_of_the_command_is_the_options():
    tool = importlib.import_module("tools.compare_clusterers")
    before, sys.argv = sys.argv, ["compare_clusterers.py", "--jobs", "6", "--events", "a.npz", "--cfg-options", "a.b=1"]
    sys.argv += ["--rates", "1e-3", "2e-3"]
    with redirect_stdout(io.StringIO()):
        options = CompareOptions(**vars(tool.parse_arguments()))
    sys.argv = before
    wanted = CompareOptions(tool.CONFIGS, seeds=[0, 1, 2], batches=[1, 2, 4, 8, 16], jobs=6)
    assert options == replace(wanted, events=[Path("a.npz")], overrides={"a.b": 1}, rates=[1e-3, 2e-3])


@pytest.mark.gpu
def test_calls_are_timed_on_the_device_that_they_run_on():
    """With one GPU this is the current one; with several the last, whose stream the current one's events do not see."""
    device = torch.device("cuda", torch.cuda.device_count() - 1)
    a = torch.randn(4096, 4096, device=device)
    before = torch.cuda.current_device()
    once = min(call_ms(lambda: a @ a, device) for _ in range(5))
    often = min(call_ms(lambda: [a @ a for _ in range(50)], device) for _ in range(3))
    assert 20 < often / once < 80 and torch.cuda.current_device() == before
