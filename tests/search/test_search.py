# SPDX-License-Identifier: Apache-2.0
"""A search at toy size: its limits, its files, and that a killed one ends as another."""

import csv
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import cv2
import pytest
import torch

from pcperc.benchmark.macs import count_macs
from pcperc.engine.checkpoint import CheckpointError
from pcperc.engine.config import ConfigError, load_config
from pcperc.engine.loading import load_model, open_checkpoint
from pcperc.engine.testing import TestOptions, test
from pcperc.engine.training import TrainOptions, train
from pcperc.models.spvnas import Subnet
from pcperc.registry import DATASETS
from pcperc.search import SearchOptions, limited, search
from pcperc.search.limited import LimitedSubnets
from pcperc.search.scores import SubnetScores
from pcperc.search.state import SearchState
from tests.engine.helpers import running_tool
from tests.engine.tiny_segmentation import write_spvcnn, write_spvnas
from tests.search.test_costs_and_scores import points_of
from tests.semantickitti_root import write_root
from tests.simulated_root import mark_simulated


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return mark_simulated(write_root(tmp_path_factory.mktemp("kitti")))


@pytest.fixture(scope="module")
def supernet(root, tmp_path_factory):
    """Config and checkpoint of a super network that was trained a little."""
    folder = tmp_path_factory.mktemp("supernet")
    config = write_spvnas(folder / "supernet.py", root)
    return config, train(TrainOptions(config, work_dir=folder / "work", device="cpu"))


def test_every_limit_is_kept_and_scans_are_spread_over_their_splits(supernet, monkeypatch):
    config, checkpoint = supernet
    seen = []
    monkeypatch.setattr(limited, "SubnetScores", lambda p, *scans: seen.append(scans) or SubnetScores(p, *scans))
    found = open_checkpoint(checkpoint, config)

    def within(scans=2, **limits):
        device = torch.device("cpu")
        return LimitedSubnets(found, device, limits=limits, split=None, scans=scans, calibration_scans=3)

    free = within(gmacs=1e3)
    calibration, scored, _ = seen[0]
    assert [sample["sample_token"] for sample in scored] == ["02/000000", "02/000001"]
    # Three of the four of the training split.
    assert [sample["sample_token"] for sample in calibration] == ["00/000000", "01/000000", "01/000001"]
    largest, smallest = free.net.largest(), free.net.smallest()
    for name in ("gmacs", "mparams"):
        other = {"gmacs": "mparams", "mparams": "gmacs"}[name]
        tight = within(**{name: 1.01 * free.cost(name, smallest), other: 1e3})
        assert tight.is_allowed(smallest) and not tight.is_allowed(largest)
    monkeypatch.setattr(limited, "latency_ms", lambda net, points: 7.0)
    both = within(mparams=1e3, latency_ms=7.0)
    assert both.is_allowed(largest) and both.first_cost == "mparams" and both.scored(smallest, 0).latency_ms == 7.0
    with pytest.raises(ConfigError, match="no subnet keeps .* the smallest has mparams .*, latency_ms 7"):
        within(mparams=1e3, latency_ms=6.9)


def test_front_picture_and_subnets(supernet, root, tmp_path, capsys):
    config, checkpoint = supernet
    options = SearchOptions(
        config, checkpoint, max_gmacs=1.0, population=4, generations=2, scans=2, calibration_scans=2,
        work_dir=tmp_path, device="cpu",
    )  # fmt: skip
    front = search(options)
    printed = capsys.readouterr().out
    assert "subnets are chosen by their scores on sim_val" in printed and "simulated data" in printed
    folder = tmp_path / "search"
    state = SearchState.load(folder / "state.json", json.loads((folder / "state.json").read_text())["settings"])
    assert len({member.subnet for member in state.members}) == 12 and state.generation == 3
    assert {member.generation for member in state.members} == {0, 1, 2}
    assert [m.gmacs for m in front] == sorted(m.gmacs for m in front) and [m.miou for m in front] == sorted(
        m.miou for m in front
    )
    best = max(member.miou for member in state.members)
    assert front[-1].miou == best and all(member.latency_ms > 0 for member in front)
    rows = json.loads((folder / "front.json").read_text())["front"]
    assert [Subnet(**row["subnet"]) for row in rows] == [member.subnet for member in front]
    with open(folder / "front.csv") as file:
        assert [float(row["miou"]) for row in csv.DictReader(file)] == [member.miou for member in front]
    assert cv2.imread(str(folder / "front.png")).std() > 1
    # A subnet's weights are a checkpoint of a plain SPVCNN, with the score that the search gave it.
    weights = folder / "front" / f"{rows[-1]['name']}.safetensors"
    tuned = write_spvcnn(tmp_path / "tuned.py", root, "subnet = None\nmodel['backbone'].pop('widths')")
    found = test(TestOptions(tuned, weights, work_dir=tmp_path / "scores", device="cpu"))
    assert found["mIoU"] == pytest.approx(best)
    model, _ = load_model(weights)
    assert count_macs(model.backbone, points_of(100)).parameters == pytest.approx(front[-1].mparams * 1e6)
    subnet = weights.with_suffix(".json")
    again = TrainOptions(tuned, work_dir=tmp_path / "tuned", device="cpu", subnet=subnet, load_from=weights)
    assert train(again).is_file()
    with pytest.raises(ConfigError, match="is of an earlier search; --resume goes on with it"):
        search(options)
    with pytest.raises(ConfigError, match="of a search with other settings, population: 5 here, 4 there"):
        search(replace(options, population=5, resume=True))


def test_a_checkpoint_alone_brings_its_own_config(root, tmp_path, monkeypatch):
    """That of a training with --cfg-options fits no file."""
    config = write_spvnas(tmp_path / "supernet.py", root)
    changed = {"model.data_preprocessor.voxel_size": 3.0, "train_cfg.max_epochs": 1}
    checkpoint = train(TrainOptions(config, work_dir=tmp_path / "work", device="cpu", overrides=changed))
    few = "--max-gmacs 1 --population 2 --generations 0 --scans 1 --calibration-scans 1 --device cpu"
    tool = importlib.import_module("tools.search")
    monkeypatch.setattr(sys, "argv", ["search.py", str(checkpoint), *few.split(), "--work-dir", str(tmp_path)])
    tool.main()
    rows = json.loads((tmp_path / "search/front.json").read_text())["front"]
    _, cfg = load_model(tmp_path / "search/front" / f"{rows[0]['name']}.safetensors")
    assert cfg.model.data_preprocessor.voxel_size == 3.0
    monkeypatch.setattr(sys, "argv", ["search.py", str(checkpoint), str(checkpoint)])
    with pytest.raises(ValueError, match=r"CONFIG must be a .py file, got .*work/epoch_1.pth"):
        tool.main()
    options = SearchOptions(None, checkpoint, max_gmacs=1.0, random=1, scans=1, calibration_scans=1, device="cpu")
    monkeypatch.setattr("pcperc.search.run.score_random_subnets", lambda subnets, folder, **_: folder)
    assert search(options) == checkpoint.parent / "search"  # beside the checkpoint
    with pytest.raises(ConfigError, match="give a config, or a checkpoint, which brings its own"):
        search(replace(options, checkpoint=None))
    with pytest.raises(ConfigError, match="model.data_preprocessor.voxel_size: 2.0 here, 3.0 there"):
        search(replace(options, config=config))


def test_limits(supernet, tmp_path):
    config, checkpoint = supernet
    few = dict(population=2, generations=0, scans=1, calibration_scans=1, device="cpu")
    with pytest.raises(ConfigError, match="give a limit > 0"):
        search(SearchOptions(config, checkpoint, work_dir=tmp_path, **few))
    with pytest.raises(ConfigError, match=r"no subnet keeps {'mparams': 0.0001}; the smallest has mparams 0.\d+"):
        search(SearchOptions(config, checkpoint, max_mparams=1e-4, work_dir=tmp_path, **few))
    front = search(SearchOptions(config, checkpoint, max_mparams=0.6, max_latency_ms=1e4, work_dir=tmp_path, **few))
    assert all(member.mparams <= 0.6 and member.latency_ms <= 1e4 for member in front)


def test_random_subnets_at_the_limit(supernet, tmp_path, monkeypatch, capsys):
    config, checkpoint = supernet
    options = SearchOptions(
        config, checkpoint, max_gmacs=0.0093, random=2, scans=2, calibration_scans=2, work_dir=tmp_path, device="cpu"
    )
    members = search(options)
    printed = capsys.readouterr().out
    assert "drawing subnets 2/2" in printed and "scoring 2/2" in printed
    assert len({member.subnet for member in members}) == 2
    assert all(0.9 * 0.0093 <= member.gmacs <= 0.0093 for member in members)
    found = json.loads((tmp_path / "search/random.json").read_text())
    assert [Subnet(**row["subnet"]) for row in found["random"]] == [member.subnet for member in members]
    assert found["settings"]["random"] == 2 and found["settings"]["limits"] == {"gmacs": 0.0093}
    assert search(options) == members  # drawn by the seed alone, without a state
    assert search(replace(options, seed=1)) != members and not (tmp_path / "search/state.json").exists()
    # They are scored as the subnets of a search are.
    model, cfg = load_model(checkpoint)
    scans = [dataset[index] for dataset in (DATASETS.build(cfg.test_dataloader.dataset),) for index in (0, 1)]
    seen = [dataset[index] for dataset in (_train_split(cfg),) for index in (0, len(dataset) - 1)]
    scores = SubnetScores(model.data_preprocessor, seen, scans, 19)
    assert scores(scores.calibrate(model.backbone.extract(members[0].subnet))) == members[0].miou
    with pytest.raises(ConfigError, match="--random must be 1 or more, and is no search that --resume could go on"):
        search(replace(options, resume=True))
    with monkeypatch.context() as patch:

        def stopped(*_, **__):
            raise KeyboardInterrupt

        patch.setattr("pcperc.search.run.score_random_subnets", stopped)
        with pytest.raises(KeyboardInterrupt, match=r"random.json is written once all are scored"):
            search(options)  # the tool would have advised --resume
    monkeypatch.setattr("pcperc.search.random_subnets.MAX_DRAWS", 2)
    with pytest.raises(ConfigError, match="--random 2: only 0 subnets were found with gmacs at 1e"):
        search(replace(options, max_gmacs=1e6))


def _train_split(cfg):
    return DATASETS.build({**cfg.test_dataloader.dataset, "split": "sim_train"})


def test_a_super_network_is_trained_on_the_data_that_is_named(supernet, tmp_path, monkeypatch, capsys):
    """It was trained on the config's own data, simulated where that is missing, and searched on the named one."""
    given = []
    monkeypatch.setattr("pcperc.search.run.train", lambda options, **_: given.append(options.overrides))
    with pytest.raises(CheckpointError):
        search(SearchOptions(supernet[0], max_gmacs=1.0, work_dir=tmp_path, data_root="/data/kitti", device="cpu"))
    assert given == [{"data_root": "/data/kitti"}]
    printed = capsys.readouterr().out
    assert f"{tmp_path} has no trained super network" in printed and f"{supernet[0]} is trained first" in printed
    assert f"--work-dir {tmp_path} --resume --cfg-options data_root=/data/kitti goes on" in printed
    with pytest.raises(CheckpointError):
        search(SearchOptions(supernet[0], max_gmacs=1.0, random=7, work_dir=tmp_path, device="cpu"))
    assert "Then 7 random subnets are scored" in capsys.readouterr().out


def test_a_plain_network_is_not_trained_to_be_refused(root, tmp_path, monkeypatch):
    """It was trained whole, and only then found to be none that is searched."""
    monkeypatch.setattr("pcperc.search.run.train", lambda *_, **__: pytest.fail("trained"))
    config = write_spvcnn(tmp_path / "tiny.py", root)
    with pytest.raises(ConfigError, match=r"tiny.py: model must be a super network \(.*\), has SPVCNN"):
        search(SearchOptions(config, max_gmacs=1.0, work_dir=tmp_path, device="cpu"))


def test_one_search_at_a_time(supernet, tmp_path):
    (tmp_path / "search").mkdir()
    code = "import sys\nfrom pcperc.files import only_writer\nwith only_writer(sys.argv[1], 'searching'):\n"
    command = [sys.executable, "-c", code + "    print('in', flush=True)\n    sys.stdin.read()", tmp_path / "search"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(OSError, match="search: another process is searching there"):
            search(SearchOptions(*supernet, max_gmacs=1.0, work_dir=tmp_path, device="cpu"))
        other.stdin.close()


def test_a_plain_network_is_refused(root, tmp_path):
    config = write_spvcnn(tmp_path / "tiny.py", root)
    checkpoint = train(TrainOptions(config, work_dir=tmp_path, device="cpu", overrides={"train_cfg.max_epochs": 1}))
    with pytest.raises(ConfigError, match="must be of a super network, got SPVCNN"):
        search(SearchOptions(config, checkpoint, max_gmacs=1.0, work_dir=tmp_path, device="cpu"))


def test_killed_and_resumed_ends_at_the_same_front(supernet, tmp_path):
    config, checkpoint = supernet
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = SearchOptions(
        config, checkpoint, max_gmacs=0.003, population=4, generations=4, scans=2, calibration_scans=2,
        work_dir=whole, device="cpu", seed=3,
    )  # fmt: skip
    expected = search(options)
    command = f"tools/search.py {config} {checkpoint} --max-gmacs 0.003 --population 4 --generations 4 --scans 2"
    command += f" --calibration-scans 2 --device cpu --seed 3 --work-dir {killed}"
    with running_tool(*command.split(), log=tmp_path / "log") as process:
        state, end = killed / "search/state.json", time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end:
            if state.is_file() and json.loads(state.read_text())["generation"] >= 2:
                break
            time.sleep(0.005)
        assert process.poll() is None, (tmp_path / "log").read_text()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert 2 <= json.loads(state.read_text())["generation"] < 5
    front = search(replace(options, work_dir=killed, resume=True))
    assert state.read_bytes() == (whole / "search/state.json").read_bytes()
    # Their latencies are measured, so no two are the same.
    same = [[replace(member, latency_ms=None) for member in each] for each in (front, expected)]
    assert same[0] == same[1] and all(member.gmacs <= 0.003 for member in front)


@pytest.mark.parametrize("name", ["spvnas_supernet", "spvnas_supernet_demo", "spvnas_supernet_simulated"])
def test_configs_of_super_networks_and_subnets_belong_together(name):
    supernet = load_config(f"configs/spvnas/{name}.py")
    subnet = load_config(f"configs/spvnas/{name.replace('supernet', 'subnet')}.py")
    assert "subnet" in subnet and subnet.data_root == supernet.data_root
    assert subnet.model.data_preprocessor == supernet.model.data_preprocessor
