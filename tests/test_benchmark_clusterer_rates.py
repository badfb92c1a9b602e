# SPDX-License-Identifier: Apache-2.0
"""Trials of learning rates in the comparison of networks of calorimeter hits, at toy size."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.optim.scheduler import LinearLR

from pcperc.benchmark import clusterers
from pcperc.benchmark.clusterer_options import RATE_KEY, CompareOptions
from pcperc.benchmark.clusterer_report import format_comparison
from pcperc.benchmark.clusterer_trainings import Trials, rate_overrides
from pcperc.benchmark.clusterers import compare_clusterers, compare_speed
from pcperc.benchmark.scores import Test
from pcperc.engine.checkpoint import load_checkpoint
from pcperc.engine.config import ConfigError, load_config
from tests.calorimeter_events import write_events
from tests.in_process import run_in_process

SPVCNN, GRAVNET = Path("configs/calo_spvcnn.py"), Path("configs/calo/gravnet.py")
RATES = (3e-2, 1e-6)


@pytest.fixture
def in_process(monkeypatch):
    timed = {"device": "cpu", "how": "eager", "batch": 1, "events_per_s": 1.0}  # timing takes longer than all else
    monkeypatch.setattr(clusterers, "_speed", lambda _, run, __: [{"network": run.config.stem, **timed}])
    monkeypatch.setattr("pcperc.engine.summaries.draw_cluster_curves", lambda *_, **__: None)
    return run_in_process(monkeypatch)


def toy_options(tmp_path: Path, *configs: Path, **changes) -> CompareOptions:
    toy = CompareOptions(
        configs, seeds=(3, 4), epochs=1, rates=RATES, batches=(1,), runs=1, work_dir=tmp_path / "work",
        overrides=write_events(tmp_path / "data"), device="cpu",
    )  # fmt: skip
    return replace(toy, **changes)


def written(training: Path, scores: str) -> dict:
    """What tools/test.py wrote of a training of one epoch."""
    return json.loads((training / scores / "cluster_scores.json").read_text())


def best_rate(work: Path, network: str, seed: int) -> float:
    """By hand, from the files of scores."""
    quality = {rate: written(work / f"{network}_rate{rate}_seed{seed}", "epoch_1_sim_val") for rate in RATES}
    quality = {rate: found["scores"]["hits/PQ"] for rate, found in quality.items()}
    return min(rate for rate in RATES if quality[rate] == max(quality.values()))


def ran(in_process) -> list[tuple[str, str]]:
    """Tool, and folder of the training or of the scores, of each run so far; forgets them."""
    runs = [(Path(c[1]).stem, "/".join(Path(c[c.index("--work-dir") + 1]).parts[-2:])) for c in in_process.commands]
    in_process.commands.clear()
    return [(tool, name.removeprefix("work/")) for tool, name in runs]


def test_the_rate_is_chosen_on_validation_events(tmp_path, in_process, capsys):
    options = toy_options(tmp_path, SPVCNN, GRAVNET, jobs=4)
    work = options.work_dir
    found = compare_clusterers(options, simulate=None)
    chosen = {network: best_rate(work, network, 3) for network in ("calo_spvcnn", "gravnet")}
    assert [(row["network"], row["rate"], row["chosen"]) for row in found["trials"]] == [
        (network, rate, rate == chosen[network]) for network in chosen for rate in sorted(RATES)
    ]
    for row in found["trials"]:
        summary = written(work / f"{row['network']}_rate{row['rate']}_seed3", "epoch_1_sim_val")
        assert row["scores"] == summary["scores"] and row["split"] == summary["scored"]["split"] == "sim_val"
        assert (
            load_checkpoint(Path(row["checkpoint"]))["meta"]["config"]["optim_wrapper"]["optimizer"]["lr"]
            == row["rate"]
        )
        assert row["seed"] == 3 and row["iterations"] == 1 and row["train_s"] > 0 and row["test_s"] > 0
    assert [(run["network"], run["rate"], run["seed"]) for run in found["runs"]] == [
        (network, chosen[network], seed) for seed in (3, 4) for network in chosen
    ]
    for run in found["runs"]:
        folder = work / f"{run['network']}_rate{run['rate']}_seed{run['seed']}"
        assert run["checkpoint"] == str(folder / "epoch_1.pth")
        assert written(folder, "epoch_1")["scored"]["split"] == "sim_test"
        assert run["scores"] == written(folder, "epoch_1")["scores"] and run["train_s"] > 0
    # All trials first, and what was trained in them is not trained again.
    runs = ran(in_process)
    trials = [f"{network}_rate{rate}_seed3" for network in chosen for rate in RATES]
    assert {name for tool, name in runs[:8]} == {*trials, *(f"{name}/epoch_1_sim_val" for name in trials)}
    others = {f"{network}_rate{rate}_seed4" for network, rate in chosen.items()}
    assert {name for tool, name in runs[8:] if tool == "train"} == others and len(runs) == 8 + 2 + 4
    text = capsys.readouterr().out
    assert "simulated (GFlash), validation events (sim_val), 1 iterations, seed 3: learning rates" in text
    assert json.loads((work / clusterers.RESULTS_NAME).read_text()) == json.loads(json.dumps(found))
    # Again: all is there. Other scores on these events, another choice; of the other network all is kept.
    compare_clusterers(options, simulate=None)
    assert not ran(in_process)
    other = next(rate for rate in RATES if rate != chosen["gravnet"])
    path = work / f"gravnet_rate{other}_seed3/epoch_1_sim_val/cluster_scores.json"
    path.write_text(json.dumps({"scores": {"hits/PQ": 0.9}}))
    again = compare_clusterers(options, simulate=None)
    assert [(r["network"], r["rate"]) for r in again["trials"] if r["chosen"]] == [
        ("calo_spvcnn", chosen["calo_spvcnn"]), ("gravnet", other),
    ]  # fmt: skip
    assert [run["rate"] for run in again["runs"] if run["network"] == "gravnet"] == [other, other]
    assert set(ran(in_process)) == {
        ("test", f"gravnet_rate{other}_seed3/epoch_1"),
        ("train", f"gravnet_rate{other}_seed4"),
        ("test", f"gravnet_rate{other}_seed4/epoch_1"),
    }
    event = next((tmp_path / "data/sim_test").glob("*.npz"))
    timed = compare_speed(replace(options, configs=[GRAVNET], events=[event]))
    assert f"gravnet_rate{other}_seed3" in timed["checkpoint"]
    with pytest.raises(ConfigError, match=r"was trained otherwise, train_cfg.max_epochs: 2 here, 1 there"):
        compare_clusterers(replace(options, epochs=2), simulate=None)


def test_a_trial_that_fails_leaves_its_network_without_a_rate(tmp_path, in_process, capsys):
    options = toy_options(tmp_path, SPVCNN, GRAVNET, seeds=(3,))
    in_process.fails = "gravnet_rate0.03_seed3"
    message = r"2 runs failed, first gravnet_rate0.03_seed3: ended with status 7, .*the same command tries them again"
    with pytest.raises(RuntimeError, match=message):
        compare_clusterers(options, simulate=None)
    found = json.loads((options.work_dir / clusterers.RESULTS_NAME).read_text())
    assert [(row["network"], row["rate"]) for row in found["trials"]] == [
        ("calo_spvcnn", 1e-6), ("calo_spvcnn", 3e-2), ("gravnet", 1e-6),
    ]  # fmt: skip
    assert sum(row["chosen"] for row in found["trials"]) == 1 and not found["trials"][2]["chosen"]
    assert {row["network"] for row in found["runs"] + found["speed"]} == {"calo_spvcnn"}
    assert (
        "gravnet: no rate is chosen, for want of a trial; --rates without one that diverges goes on"
        in capsys.readouterr().out
    )
    with pytest.raises(ConfigError, match="no rate of gravnet is chosen; the same command without --events does it"):
        compare_speed(replace(options, configs=[GRAVNET], events=[Path("a.npz")]))
    in_process.fails = ""
    ran(in_process)
    found = compare_clusterers(options, simulate=None)
    assert [run["network"] for run in found["runs"]] == ["calo_spvcnn", "gravnet"]
    runs = ran(in_process)
    assert runs[:2] == [
        ("train", "gravnet_rate0.03_seed3"), ("test", "gravnet_rate0.03_seed3/epoch_1_sim_val"),
    ]  # fmt: skip
    assert len(runs) == 3 and runs[2][0] == "test" and "gravnet" in runs[2][1] and runs[2][1].endswith("/epoch_1")


def test_trials_that_are_stopped_go_on(tmp_path, in_process):
    options = toy_options(tmp_path, GRAVNET, seeds=(3,))
    in_process.stopped = "gravnet_rate0.03_seed3"
    with pytest.raises(KeyboardInterrupt):
        compare_clusterers(options, simulate=None)
    weights = (options.work_dir / "gravnet_rate1e-06_seed3/epoch_1.pth").stat().st_mtime_ns
    in_process.stopped = ""
    ran(in_process)
    found = compare_clusterers(options, simulate=None)
    assert [name for tool, name in ran(in_process) if tool == "train"] == ["gravnet_rate0.03_seed3"]
    assert (options.work_dir / "gravnet_rate1e-06_seed3/epoch_1.pth").stat().st_mtime_ns == weights
    assert [row["train_s"] is None for row in found["trials"]] == [True, False]


def test_one_rate_is_no_choice(tmp_path, in_process):
    options = toy_options(tmp_path, GRAVNET, seeds=(3,), rates=(4e-3,))
    for event in (tmp_path / "data/sim_val").iterdir():
        event.unlink()  # nothing is judged
    found = compare_clusterers(options, simulate=None)
    assert found["trials"] == [] and [run["rate"] for run in found["runs"]] == [4e-3]
    assert ran(in_process) == [("train", "gravnet_rate0.004_seed3"), ("test", "gravnet_rate0.004_seed3/epoch_1")]


@pytest.mark.parametrize(
    "key, does", [("train_dataloader.dataset.split", "trains"), ("test_dataloader.dataset.split", "is tested")]
)
def test_events_that_choose_are_used_for_nothing_else(tmp_path, key, does):
    options = toy_options(tmp_path, GRAVNET)
    seen = replace(options, overrides={**options.overrides, key: "./sim_val"})
    with pytest.raises(
        ConfigError, match=rf"--rates-split must not be sim_val, on which configs/calo/gravnet.py {does}"
    ):
        compare_clusterers(seen, simulate=None)
    with pytest.raises(FileNotFoundError, match=r"data/val is missing \(known: sim_test, sim_train, sim_val\)"):
        compare_clusterers(replace(options, rates_split="val"), simulate=None)
    assert not (options.work_dir / "logs").exists()


@pytest.mark.parametrize(
    "qualities, best",
    [
        ({1e-4: 0.1, 1e-3: 0.3, 1e-2: 0.2}, 1e-3),
        ({1e-4: 0.1, 1e-3: 0.3, 1e-2: 0.3}, 1e-3),
        ({1e-4: math.nan, 1e-3: 0.0, 1e-2: math.nan}, 1e-3),
        ({1e-4: math.nan, 1e-3: math.nan, 1e-2: math.nan}, 1e-4),
    ],
)
def test_the_best_rate_and_of_equals_the_smallest(tmp_path, monkeypatch, qualities, best):
    trials = Trials(CompareOptions([GRAVNET], rates=(1e-2, 1e-4, 1e-3), work_dir=tmp_path), GRAVNET)
    for rate, training in trials.trainings.items():
        scores = {"hits/PQ": qualities[rate], "energy/PQ": -rate}
        monkeypatch.setattr(training, "scores", lambda scores=scores: scores)
    assert trials.rate() == best


def lr_curve(cfg) -> list[float]:
    """The learning rate at each of 60 steps, by the schedule of a config, one step an epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=cfg.optim_wrapper.optimizer.lr, momentum=0.9)
    schedulers = []
    for given in cfg.param_scheduler:
        how = {"end": 60, **{key: value for key, value in given.items() if key != "convert_to_iter_based"}}
        kind = how.pop("type")
        how |= {"T_max": 60} if kind is not LinearLR else {"by_epoch": True}
        schedulers.append(kind(optimizer, **how))
    curve = []
    for _ in range(60):
        curve.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return curve


def test_another_rate_keeps_the_shape_of_the_schedule(tmp_path):
    assert rate_overrides(GRAVNET, 1e-3, {}) == {RATE_KEY: 1e-3}  # its schedule is relative to that
    absolute = tmp_path / "absolute.py"
    absolute.write_text(
        f"{Path('configs/_base_/schedules/one_cycle.py').read_text()}\n"
        "from mmengine.optim import CosineAnnealingMomentum\n"
        "param_scheduler = [\n"
        "    dict(type=LinearLR, start_factor=0.1, begin=0, end=20),\n"
        "    dict(type=CosineAnnealingLR, eta_min=2e-4, begin=0),\n"
        "    dict(type=CosineAnnealingMomentum, eta_min=0.8, begin=0),\n"
        "]\n"
    )
    assert rate_overrides(absolute, 4e-3, {}) == {RATE_KEY: 4e-3, "param_scheduler.1.eta_min": 8e-4}
    for config, own in ((GRAVNET, 2e-3), (absolute, 1e-3)):
        curve = lr_curve(load_config(config))
        assert max(curve) <= own and min(curve) < 0.3 * own
        scaled = lr_curve(load_config(config, rate_overrides(config, 4e-3, {})))
        assert scaled == pytest.approx([value * 4e-3 / own for value in curve], rel=1e-9)
    (tmp_path / "none.py").write_text(absolute.read_text().replace("lr=1e-3, ", ""))
    with pytest.raises(
        ConfigError, match=r"none.py: optim_wrapper.optimizer.lr must be there, to scale eta_min of the"
    ):
        rate_overrides(tmp_path / "none.py", 4e-3, {})


def test_the_table_of_trials():
    rows = [
        {"network": network, "rate": rate, "seed": 5, "iterations": 96, "split": "held_out", "chosen": rate == 5e-4}
        | {"scores": {"hits/PQ": 100 * rate}}
        for network in ("spvcnn", "gravnet")
        for rate in (5e-4, 2e-3)
    ]
    text = format_comparison({"runs": [], "speed": [], "trials": rows})
    title = "simulated (GFlash), validation events (held_out), 96 iterations, seed 5: learning rates"
    assert title in " ".join(text.split())
    found = [line.replace("│", " ").split() for line in text.splitlines() if "spvcnn" in line]
    assert [row[:2] for row in found] == [["spvcnn", "0.0005"], ["spvcnn", "0.002"]]
    assert ["taken" in row for row in found] == [True, False] and found[0][4] == "5.0" and found[1][4] == "20.0"


def test_scores_on_another_split_have_a_folder_of_their_own(tmp_path):
    test, checkpoint = Test(("calo",), split="sim_val"), tmp_path / "epoch_1.pth"
    assert test.command(checkpoint) == [
        "tools/test.py", checkpoint, "--eval", "calo", "--split", "sim_val", "--work-dir", tmp_path / "epoch_1_sim_val",
    ]  # fmt: skip
    assert Test(("calo",)).folder(checkpoint) == tmp_path / "epoch_1"
