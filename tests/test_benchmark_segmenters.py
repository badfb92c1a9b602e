# SPDX-License-Identifier: Apache-2.0
"""The comparison of segmentation networks: widths and costs against oracles; all of it at toy size, resumed."""

import copy
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

from pcperc.benchmark import segmenter_frames, segmenters
from pcperc.benchmark.segmenter_costs import Cost, SplitCosts, width_with_cost
from pcperc.benchmark.segmenter_frames import predict
from pcperc.benchmark.segmenters import CompareOptions, compare_segmenters, compare_speed
from pcperc.datasets import collate
from pcperc.engine.config import ConfigError, load_config
from pcperc.engine.data import spread
from pcperc.engine.raw_files import raw_sample
from pcperc.models.capture_model import capture_model
from pcperc.models.spvnas import SearchSpace
from pcperc.nn import fuse
from pcperc.registry import MODELS
from tests.engine.tiny_segmentation import write_spvcnn, write_spvnas
from tests.in_process import run_in_process
from tests.oracles_macs import minkunet_macs
from tests.semantickitti_root import scan_of, write_root

WIDTHS = [step / 1000 for step in range(32, 1001)]


def cells_of(seed: int) -> np.ndarray:
    return np.unique(np.floor(scan_of(seed)[:, :3] / np.float32(2.0)).astype(int), axis=0)


def oracle_gmacs(width: float) -> float:
    """Of MinkUNet on the two scans of the tiny root's sequence 02."""
    scans = [minkunet_macs(cells_of(seed), in_channels=4, num_classes=19, width=width) for seed in (20, 21)]
    return sum(scans) / 2 / 1e9


def squares(width: float) -> float:
    """Steps as of channels that are rounded down."""
    return float(sum(int(width * channels) ** 2 for channels in (32, 96, 128, 256)))


@pytest.mark.parametrize("share", [0.01, 0.2, 0.37, 1.0, 1.3])
def test_width_with_the_nearest_cost(share):
    asked = []
    width = width_with_cost(share * squares(1.0), lambda width: asked.append(width) or squares(width))
    nearest = min(abs(squares(other) - share * squares(1.0)) for other in WIDTHS)
    assert abs(squares(width) - share * squares(1.0)) == nearest and width in WIDTHS and len(asked) < 14


def test_width_of_a_fifth_of_the_macs():
    target = 0.2 * oracle_gmacs(1.0)
    width = width_with_cost(target, oracle_gmacs)
    others = [oracle_gmacs(width + step / 1000) for step in range(-12, 13)]
    assert abs(oracle_gmacs(width) - target) == min(abs(other - target) for other in others)
    assert oracle_gmacs(width) == pytest.approx(target, rel=0.02) and 0.3 < width < 0.6


def test_no_width_is_narrow_enough():
    with pytest.raises(ConfigError, match="no width has as little as 0.1; the narrowest, 0.032, has 0.2"):
        width_with_cost(0.1, lambda width: 0.2)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Configs by role, over a tiny root whose sequence 01 is held back for the search."""
    folder = tmp_path_factory.mktemp("segmenters")
    root = write_root(folder / "kitti")
    (root / "splits.json").write_text(json.dumps({"sim_train": ["00"], "sim_test": ["01"], "sim_val": ["02"]}))
    minkunet = (
        "\nfrom pcperc.models import MinkUNet, OnVoxels\n"
        "model['backbone'] = dict(type=OnVoxels, net=dict(type=MinkUNet, in_channels=4, num_classes=19, widths={}))\n"
    )
    return {
        "minkunet": write_spvcnn(folder / "minkunet.py", root, minkunet.format((48,) * 9)),
        "spvcnn": write_spvcnn(folder / "spvcnn.py", root),
        "supernet": write_spvnas(folder / "supernet.py", root),
        "subnet": write_spvcnn(folder / "subnet.py", root, "subnet = None\nmodel['backbone'].pop('widths')"),
    }


def test_costs_on_a_split_are_the_oracles(toy):
    cfg = load_config(toy["minkunet"])
    cfg.model["backbone"]["net"].pop("widths")
    costs = SplitCosts(load_config(toy["spvcnn"]), "sim_val", torch.device("cpu"))
    for width in (1.0, 0.137):
        found = costs.of_config(cfg, width=width)
        assert found.gmacs == pytest.approx(oracle_gmacs(width), rel=1e-12)
    assert costs.of_config(cfg).mparams == pytest.approx(21.723, abs=1e-3)
    first = SplitCosts(load_config(toy["spvcnn"]), "sim_val", torch.device("cpu"), most=1)
    macs = minkunet_macs(cells_of(20), in_channels=4, num_classes=19, width=0.5)
    assert first.of_config(cfg, width=0.5).gmacs == pytest.approx(macs / 1e9, rel=1e-12)


def test_scans_are_spread_over_a_split():
    assert spread(5, 9) == [0, 1, 2, 3, 4] and spread(7, 3) == [0, 3, 6] and spread(3, 1) == [0]
    twenty = spread(11 * 20, 20)
    assert len(set(twenty)) == 20 and {index // 20 for index in twenty} == set(range(11))  # of all sequences


def test_a_subnet_is_counted_once(toy, monkeypatch):
    space = SearchSpace((16,) + (32,) * 8, (16,) * 9)
    costs, counted = SplitCosts(load_config(toy["spvcnn"]), "sim_val", torch.device("cpu")), []
    of = SplitCosts.of
    monkeypatch.setattr(SplitCosts, "of", lambda self, net: counted.append(net) or of(self, net))
    found = [costs.of_subnet(subnet) for subnet in (space.smallest(), space.largest(), space.smallest())]
    assert len(counted) == 2 and found[0] == found[2] != found[1]


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr("pcperc.search.random_subnets.NEAR", 0.7)
    return run_in_process(monkeypatch)


def test_whole_comparison_at_toy_size_and_again(toy, tmp_path, in_process, monkeypatch, capsys):
    work = tmp_path / "work"
    options = CompareOptions(
        seeds=(3,), epochs=2, finetune_epochs=1, population=2, generations=1, random=2, limits=(0.004, 0.00401),
        device="cpu", work_dir=work, configs=toy,
        overrides={"test_dataloader.dataset.label_map": "spvnas"},  # what all runs see, also those of search.py
        amp=True,
    )  # fmt: skip
    in_process.fails = "search_seed3"
    in_process.stopped = "spvcnn_seed3"  # by Ctrl-C
    with pytest.raises(KeyboardInterrupt):
        compare_segmenters(options, simulate=None)
    weights = (work / "minkunet_seed3/epoch_2.pth").stat().st_mtime_ns
    in_process.stopped = ""  # now the search fails: what needs it is left out, all else is done
    with pytest.raises(
        RuntimeError, match=r"4 runs failed, first search_seed3: ended with status 7, .*tries them again"
    ):
        compare_segmenters(options, simulate=None)
    printed = capsys.readouterr().out
    assert "subnet_seed3: FAILED, needs search_seed3" in printed and "NOT REACHED" not in printed
    before = json.loads((work / segmenters.RESULTS_NAME).read_text())
    assert {row["network"] for row in before["rows"]} == {"minkunet", "spvcnn", "scaled", "random"}
    ran = [" ".join(map(str, command)) for command in in_process.commands]
    searches = {
        name: command
        for name in ("limits", "random")
        for command in ran
        if f"{name}_seed3 " in f"{command} " and "search.py" in command
    }
    assert "--amp" in searches["limits"] and "--amp" not in searches["random"]  # beside test.py's scores
    tested = [command for command in in_process.commands if "tools/test.py" in command]
    assert sum("limits_seed3" in str(command) for command in tested) == 1  # both limits choose one subnet
    in_process.commands.clear()
    in_process.fails = ""
    found = compare_segmenters(options, simulate=None)
    assert len(in_process.commands) == 4 and (work / "minkunet_seed3/epoch_2.pth").stat().st_mtime_ns == weights
    check_results(found, work)
    printed = capsys.readouterr().out
    assert "Simulated SemanticKITTI, 2 scans of sim_val" in printed and printed.count("REACHED") == 5
    in_process.commands.clear()
    costs = segmenters.count_costs(options, torch.device("cpu"), None)
    monkeypatch.setattr(segmenters, "count_costs", lambda *arguments: costs)
    again = compare_segmenters(options, simulate=None)
    assert not in_process.commands and again["rows"] == found["rows"]
    check_speed(options, tmp_path, capsys)
    # What was made otherwise is not taken for it.
    for change, message in (
        ({"epochs": 3}, r"supernet_seed3/epoch_1.pth: was trained otherwise, train_cfg.max_epochs: 2 here, 1 there"),
        (
            {"amp": False},
            r"supernet_seed3/epoch_1.pth: was trained otherwise, optim_wrapper.amp: 'absent' here, True there",
        ),
        (
            {"population": 3},
            r"front.json: is of other settings, population: 3 here, 2 there; choose another --work-dir",
        ),
        ({"random": 3}, r"random.json: is of other settings, random: 3 here, 2 there"),
    ):
        with pytest.raises(ConfigError, match=message):
            compare_segmenters(replace(options, **change), simulate=None)


def check_results(found: dict, work: Path) -> None:
    rows = {row["network"]: row for row in found["rows"]}
    assert len(rows) == len(found["rows"]) == 6
    iterations = {name: row["iterations"] for name, row in rows.items()}
    assert iterations == {"minkunet": 2, "spvcnn": 2, "scaled": 2, "finetuned": 2, "searched": 1, "random": 1}
    limit = 0.2 * rows["minkunet"]["gmacs"]
    assert rows["searched"]["gmacs"] == rows["finetuned"]["gmacs"] <= limit == found["limit_gmacs"]
    assert rows["scaled"]["gmacs"] == pytest.approx(limit, rel=0.05) and rows["scaled"]["width"] < 1
    drawn = rows["random"]["all"]
    assert rows["random"]["miou"] == np.median([row["miou"] for row in drawn]) and len(drawn) == 2
    assert all(0.7 * limit <= row["gmacs"] <= limit for row in drawn)
    front = json.loads((work / "search_seed3/search/front.json").read_text())
    assert front["settings"]["split"] == "sim_test"
    assert json.loads(json.dumps(rows["searched"]["subnet"])) in [row["subnet"] for row in front["front"]]
    at_limit, again = found["at_limits"]
    assert at_limit["gmacs"] <= 0.004 and 0 <= at_limit["miou"] <= 1 and again == at_limit | {"limit": 0.00401}
    assert len(found["verdicts"]) == 5


def check_speed(options: CompareOptions, folder: Path, capsys) -> None:
    scan_of(5).tofile(folder / "scan.bin")
    found = compare_speed(replace(options, frames=folder / "scan.bin", runs=1))
    modes = [(row["network"], row["mode"]) for row in found["rows"]]
    assert modes == [(name, mode) for name in ("MinkUNet", "SPVCNN", "SPVNAS") for mode in ("plain", "fused")]
    assert found["rows"][0]["ratio_to_plain"] == 1 and found["num_points"] == 60
    assert json.loads((options.work_dir / "frames.json").read_text())["rows"] == found["rows"]
    assert capsys.readouterr().out.count("REACHED on cpu") == 2
    with pytest.raises(ConfigError, match="minkunet_seed9: no finished training; the same command without --frames"):
        compare_speed(replace(options, frames=folder / "scan.bin", seeds=(9,)))


def test_networks_beside_a_search_that_found_nothing():
    """Random subnets are scored, but of the front none keeps the limit on the scored scans."""

    def searched():
        raise ConfigError("no subnet of the front keeps 1 GMACs")

    nothing = SimpleNamespace(scores=lambda: None, width=None)
    drawn = [{"miou": value, "gmacs": 1.0, "mparams": 2.0} for value in (0.1, 0.2, 0.6)]
    run = SimpleNamespace(
        supernet=SimpleNamespace(seed=3, iterations=lambda: 7), searched=searched,
        random=SimpleNamespace(rows=lambda: drawn), minkunet=nothing, spvcnn=nothing, scaled=nothing,
    )  # fmt: skip
    cost = Cost(1.0, 1.0)
    (row,) = segmenters._rows_of_seed(run, SimpleNamespace(minkunet=cost, spvcnn=cost, scaled=cost))
    assert (row["network"], row["seed"], row["iterations"], row["miou"]) == ("random", 3, 7, 0.2)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seeds": ()}, "--seeds must be one or more different numbers"),
        ({"seeds": (1, 1)}, "--seeds must be one or more different numbers"),
        ({"finetune_epochs": 10}, r"--finetune-epochs must be in \[1, --epochs\), got 10 of 10"),
        ({"jobs": 0}, "--jobs must be 1 or more, got 0"),
        ({"limits": (20, 0)}, "--limits must be > 0"),
        ({"limits": (20, 20.0)}, "--limits must be > 0 and different"),
        ({"runs": 0}, "--runs must be 1 or more, got 0"),
        ({"overrides": {"train_cfg.max_epochs": 3}}, "--cfg-options train_cfg.max_epochs: --epochs says that"),
        ({"search_split": "sim_val"}, "--search-split must not be sim_val"),
    ],
)
def test_options_out_of_range(toy, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        compare_segmenters(
            replace(CompareOptions(work_dir=tmp_path, configs=toy, device="cpu"), **change), simulate=None
        )


def test_graphs_have_room_for_the_scan_and_are_timed_in_half(toy, monkeypatch):
    captured, timed = {}, {}

    def time_in_turns(functions, **how):
        timed.update(functions)
        return {name: {"median_ms": 2.0, "p5_ms": 1.0} for name in functions}

    for name, stand_in in {
        "open_checkpoint": lambda path: SimpleNamespace(cfg=load_config(toy[path])),
        "build_model": lambda opened, device: MODELS.build(opened.cfg.model).eval(),
        "capture_model": lambda model, *, capacity: captured.update({capacity: model}),
        "time_in_turns": time_in_turns,
    }.items():
        monkeypatch.setattr(segmenter_frames, name, stand_in)
    points = np.pad(scan_of(0), ((0, 0), (0, 1)))
    checkpoints = {"SPVNAS": "spvcnn"}
    rows = segmenter_frames._time_on(checkpoints, Path("a.bin"), points, torch.device("cuda"), 3)
    ((capacity, graph),) = captured.items()
    assert len(points) < capacity < 1.2 * len(points)
    halves = {mode: function.keywords["half"] for (_, mode), function in timed.items()}
    assert halves == {"plain": False, "fused": False, "engine": True, "graph": True}
    assert timed["SPVNAS", "graph"].args[0] is graph is not timed["SPVNAS", "engine"].args[0]
    printed = segmenter_frames.format_frames({"scan": "a.bin", "num_points": 60, "rows": rows})
    assert "SPVNAS (the same as a CUDA graph) over MinkUNet layer by layer: 1.00" in printed


def test_what_frames_say_of_memory_held_while_they_were_timed(tmp_path, monkeypatch):
    asked = []

    def time_on(checkpoints, scan, points, device, runs):
        asked.append("timed")
        return [{"device": "cpu", "network": "SPVNAS", "mode": "plain", "median_ms": 1.0, "p5_ms": 1.0,
                 "frames_per_s": 1.0, "ratio": 1.0, "ratio_to_plain": 1.0}]  # fmt: skip

    monkeypatch.setattr(segmenter_frames, "_time_on", time_on)
    monkeypatch.setattr(segmenter_frames, "environment", lambda device: asked.append("kept") or {})
    scan_of(5).tofile(tmp_path / "scan.bin")
    segmenter_frames.compare_frames({}, tmp_path / "scan.bin", [torch.device("cpu")], runs=1, work_dir=tmp_path)
    assert asked == ["kept", "timed"]


@pytest.mark.parametrize("in_graph", [False, pytest.param(True, marks=pytest.mark.gpu)])
@pytest.mark.parametrize("role", ["minkunet", "spvcnn"])
def test_the_engine_predicts_what_plain_layers_do(toy, role, in_graph, device):
    if in_graph and device.type == "cpu":
        pytest.skip("GPU: graphs are its own")
    torch.manual_seed(0)
    cfg = load_config(toy[role])
    model = MODELS.build(cfg.model).to(device).eval()
    batch = collate([raw_sample(np.pad(scan_of(0), ((0, 0), (0, 1))), Path("a.bin"), None)])
    fused = copy.deepcopy(model)
    fused.backbone = fuse(fused.backbone)
    if in_graph:
        capture_model(fused, capacity=100)
    (plain,), (engine,) = (predict(net, batch, device, half=net is fused) for net in (model, fused))
    assert engine.labels.device.type == device.type and len(engine.labels) == 60
    assert (plain.scores - engine.scores).abs().max() < 0.02
    assert (plain.labels == engine.labels).float().mean() > 0.9


def test_help_of_the_command_is_the_options():
    tool = importlib.import_module("tools.compare_segmenters")
    before, sys.argv = sys.argv, ["compare_segmenters.py", "--limits", "--seeds", "1", "2", "--cfg-options", "a.b=1"]
    with redirect_stdout(io.StringIO()):
        options = CompareOptions(**vars(tool.parse_arguments()))
    sys.argv = before
    assert options == CompareOptions(seeds=[1, 2], limits=[], overrides={"a.b": 1})
