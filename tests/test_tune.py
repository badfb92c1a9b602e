# SPDX-License-Identifier: Apache-2.0
"""tools/benchmark.py tune: what it measures, what it chooses, and the file that it extends."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pcperc import ops
from pcperc.benchmark import tune as tuning
from pcperc.benchmark.selection import (
    Choice,
    Selection,
    Sizes,
    gpu_name,
    load_or_start,
    parse_selection,
    save_selection,
)
from pcperc.benchmark.tune import TuneOptions, output_path, tune
from pcperc.benchmark.tuned_size import (
    TunedSize,
    best_of,
    error_limit,
    forward_candidates,
    make_map,
    weight_grad_candidates,
)
from tests.ops.clouds import random_coords
from tests.tolerances import tolerances

ROOT = Path(__file__).parent.parent
FORWARD = Sizes("forward", "float16", 2000, 64, 128, 27)
WEIGHT_GRAD = Sizes("weight_grad", "tf32", 2000, 32, 32, 8)


@pytest.fixture(autouse=True)
def no_folder_of_the_user(monkeypatch):
    monkeypatch.delenv("PCPERC_SELECTION", raising=False)


def test_a_file_is_read_as_it_was_written(tmp_path):
    choices = {WEIGHT_GRAD: Choice(1, 0, 0.5), FORWARD: Choice(102, 4, 0.0123)}
    selection = Selection("sm_90_1", ["first run", "second run"], choices)
    path = tmp_path / "new" / "table.txt"
    save_selection(selection, path)
    text = path.read_text()
    assert load_or_start("sm_90_1", path) == selection
    assert text.splitlines()[4].split() == ["forward", *"float16 2000 64 128 27 102 4 0.0123".split()]
    save_selection(load_or_start("sm_90_1", path), path)
    assert path.read_text() == text and os.listdir(path.parent) == ["table.txt"]


def test_a_run_extends_what_is_in_use(tmp_path, monkeypatch):
    gpu, new = "sm_90_1", tmp_path / "new.txt"
    assert load_or_start(gpu, new) == Selection(gpu)
    used = Selection(gpu, [], {FORWARD: Choice(102, 4, 0.1)})
    save_selection(used, tmp_path / "sm_90_1.txt")
    monkeypatch.setenv("PCPERC_SELECTION", str(tmp_path))
    assert load_or_start(gpu, new) == used
    save_selection(Selection(gpu, [], {WEIGHT_GRAD: Choice(1, 0, 0.1)}), new)
    assert list(load_or_start(gpu, new).choices) == [WEIGHT_GRAD]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["pcperc selection 1: Other"], 'table:1: must be "pcperc selection 1: GPU", got "pcperc selection 1: Other"'),
        ([], 'table:1: must be "pcperc selection 1: GPU", got ""'),
        (["pcperc selection 1: GPU", "pass rows"], "table:2: columns must be pass dtype rows .*, got pass rows"),
        (["pcperc selection 1: GPU", "# note", tuning_line := "pass dtype rows in out taps kernel blocks ms", "a b 1"],
         "table:4: must be pass dtype rows .*, got a b 1"),
        (["pcperc selection 1: GPU", tuning_line, "forward tf32 1 2 3 4 5 x 7"], "table:3: must be .*, got forward"),
        (["pcperc selection 1: GPU", tuning_line, "forward tf32 1 2 3 4 5 6 7", "forward tf32 1 2 3 4 6 6 7"],
         "table:4: these sizes have a line above, got forward"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_said(lines, message):
    with pytest.raises(ValueError, match=message):
        parse_selection(lines, Path("table"), "GPU")


def test_the_file_is_that_of_the_gpu_in_the_users_folder(tmp_path, monkeypatch):
    assert output_path(None, "sm_90_1") == ROOT / "pcperc/ops/selection/sm_90_1.txt"
    monkeypatch.setenv("PCPERC_SELECTION", str(tmp_path / "mine"))
    assert output_path(None, "sm_90_1") == tmp_path / "mine" / "sm_90_1.txt"
    assert output_path(tmp_path / "a.txt", "sm_90_1") == tmp_path / "a.txt"
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError, match="file cannot be written: set PCPERC_SELECTION to a folder of yours"):
        output_path(tmp_path / "file" / "a.txt", "sm_90_1")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="mine cannot be written: set PCPERC_SELECTION to a folder of yours"):
        output_path(None, "sm_90_1")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("terms", [1, 1728, 500_000])
def test_a_result_is_as_right_as_the_operator_tests_ask(dtype, terms):
    assert error_limit(dtype, terms) == pytest.approx(tolerances(dtype, terms)["rtol"])


def test_candidates_are_of_one_kind_and_suit_the_sizes():
    found = forward_candidates((102, 8), FORWARD, 132)
    assert found[0] == (102, 8) and len(set(found)) == len(found)
    assert {kernel for kernel, _ in found} == {100, 101, 102, 103, 106, 107}
    assert {blocks for kernel, blocks in found if kernel == 102} == {1, 2, 4, 8}
    assert {blocks for kernel, blocks in found if kernel in (101, 103, 107)} == {1}
    many = forward_candidates((103, 1), FORWARD._replace(rows=500_000), 132)
    assert {blocks for _, blocks in many} == {1}
    assert forward_candidates((1, 1), FORWARD, 132) == [(1, 1), (0, 1), (2, 1), (3, 1)]
    assert forward_candidates((10, 1), FORWARD._replace(in_channels=16, out_channels=16), 132) == [(10, 1)]
    half = weight_grad_candidates((1, 0), WEIGHT_GRAD._replace(dtype="float16"), has_warpgroups=True)
    assert half == [(1, 0), (0, 0), (2, 0), (4, 0), (100, 0)]
    for sizes, has_warpgroups in ((WEIGHT_GRAD, True), (WEIGHT_GRAD._replace(dtype="float16"), False)):
        assert weight_grad_candidates((1, 0), sizes, has_warpgroups=has_warpgroups) == half[:-1]


def test_the_fastest_wins_by_more_than_noise():
    times = {(0, 1): 1.0, (1, 1): 0.995, (2, 1): 2.0}
    assert best_of(times, (0, 1)) == (0, 1)
    assert best_of(times, (2, 1)) == (1, 1)
    assert best_of(times, (3, 1)) == (1, 1)


def measure(monkeypatch, sizes, milliseconds, *, chosen, wrong=()):
    """A row and the choice for it, of kernels that take so long."""
    problem = SimpleNamespace(
        sizes=sizes,
        chosen=chosen,
        limit=1e-3,
        map=SimpleNamespace(case="subm_k3", tap_pairs=torch.tensor([100, 50])),
        candidates=lambda: [candidate for candidate in milliseconds if sizes[0] == "forward" or candidate[1] == 0],
        error=lambda candidate: float("nan") if candidate in wrong else 1e-5,
        run=lambda candidate, turn: milliseconds[candidate],
    )
    monkeypatch.setattr(tuning, "graph_ms", lambda function, seconds: function(0))
    selection = Selection("GPU", [], {FORWARD: Choice(0, 1, 9.0)})
    return tuning._measure(problem, selection), selection.choices.get(sizes)


def test_the_fastest_right_kernel_is_chosen(monkeypatch):
    times = {(100, 1): 3.0, (101, 1): 1.0, (102, 2): 2.0}
    row, choice = measure(monkeypatch, FORWARD, times, chosen=(100, 1))
    assert choice == Choice(101, 1, 1.0) and row["ratio"] == pytest.approx(1 / 3)
    assert (row["now"], row["best"], row["wrong"], row["candidates"]) == ("100 x1", "101 x1", None, 3)
    assert row["tflops"] == pytest.approx(2 * 150 * 64 * 128 / 1e-3 / 1e12)
    row, choice = measure(monkeypatch, FORWARD, times, chosen=(100, 1), wrong=[(101, 1)])
    assert choice == Choice(102, 2, 2.0) and row["wrong"] == "101 x1"
    row, choice = measure(monkeypatch, FORWARD, times, chosen=(100, 1), wrong=times)
    assert choice == Choice(0, 1, 9.0) and "best" not in row
    assert measure(monkeypatch, WEIGHT_GRAD, {(1, 0): 1.0}, chosen=(1, 0)) == (None, None)


def test_blocks_of_the_two_fastest_tiles_are_tried(monkeypatch):
    times = {(tile, blocks): tile + blocks / 10 for tile in (1, 2, 3) for blocks in range(5)} | {(2, 3): 0.1, (3, 1): 0}
    row, choice = measure(monkeypatch, WEIGHT_GRAD, times, chosen=(1, 0))
    assert row["candidates"] == 3 + 2 * 4 and choice == Choice(2, 3, 0.1)


def test_kernels_near_the_fastest_are_timed_longer(monkeypatch):
    """A glance has noise: (101, 1) seems the fastest, (102, 2) is; (103, 1) is not near enough for a second look."""
    glances = {(100, 1): 3.0, (101, 1): 1.0, (102, 2): 1.05, (103, 1): 1.2}
    looks = {(100, 1): 2.0, (101, 1): 1.3, (102, 2): 1.2}
    chosen = (100, 1)
    problem = SimpleNamespace(
        sizes=FORWARD,
        chosen=chosen,
        limit=1.0,
        map=SimpleNamespace(case="", tap_pairs=torch.tensor([1])),
        candidates=lambda: list(glances),
        error=lambda candidate: 0.0,
        run=lambda candidate, turn: candidate,
    )

    def graph_ms(function, seconds):
        return (looks if seconds > 0 else glances)[function(0)]

    monkeypatch.setattr(tuning, "graph_ms", graph_ms)
    selection = Selection("GPU")
    row = tuning._measure(problem, selection)
    assert selection.choices == {FORWARD: Choice(102, 2, 1.2)} and row["now_ms"] == 2.0


class OnCpu(TunedSize):
    """A size with one kernel, on the CPU, with ``wrong`` added to one value of what it returns."""

    chosen, wrong = (0, 1), 0.0

    def run(self, candidate, turn=0):
        feats, other, table = self.feats[turn].float(), self.other.float(), self.map.table
        if self.sizes.pass_name == "forward":
            found = ops.sparse_conv(feats, other, table)
            found[self.map.ordered[1][-1], -1] += self.wrong
            return found.to(self.dtype)
        found = torch.stack([feats[rows[rows >= 0]].T @ other[rows >= 0] for rows in table])
        found[-1, -1, -1] += self.wrong
        return found


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "tf32"])
@pytest.mark.parametrize("pass_name", ["forward", "weight_grad"])
def test_one_wrong_value_is_found(pass_name, dtype):
    problem = OnCpu(make_map("subm_k3", random_coords(4000)), pass_name, dtype, (32, 24))
    assert problem.error((0, 1)) < problem.limit
    problem.wrong = problem.expected.std().item()
    assert not problem.error((0, 1)) < problem.limit
    problem.wrong = float("nan")
    assert not problem.error((0, 1)) < problem.limit


@pytest.fixture
def pretended_gpu(monkeypatch, tmp_path):
    """A run on the CPU as if it were a GPU with two kernels; gives how often sizes were measured."""
    measured = []

    def times(problem, candidates, seconds):
        measured.append(problem.sizes)
        return {candidate: float(candidate[0]) for candidate in candidates}

    class TwoKernels(OnCpu):
        chosen = (2, 1)

        def candidates(self):
            return [(2, 1), (1, 1)]

    cpu = torch.device("cpu")
    monkeypatch.setattr(tuning, "pick_device", lambda name: SimpleNamespace(type="cuda"))
    monkeypatch.setattr(tuning, "gpu_name", lambda device: "sm_90_1")
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    start, problems = tuning.start_report, tuning._problems
    monkeypatch.setattr(tuning, "start_report", lambda kind, device, *rest: start(kind, cpu, *rest))
    monkeypatch.setattr(tuning, "_problems", lambda options, sweep, device: problems(options, sweep, cpu))
    monkeypatch.setattr(tuning, "_times", times)
    monkeypatch.setattr(tuning, "TunedSize", TwoKernels)
    np.savez(tmp_path / "sweep.npz", pc=np.random.default_rng(0).uniform(0, 10, (900, 4)))
    options = {"input": tmp_path / "sweep.npz", "voxel_size": 0.8, "voxels": (None,), "output": tmp_path / "a.txt"}
    options |= {"cases": ("subm_k3",), "channels": [(8, 8), (16, 16)], "dtype": ("float16",), "passes": ("forward",)}
    return options, measured


def test_a_run_that_was_stopped_goes_on(pretended_gpu, monkeypatch, capsys):
    options, measured = pretended_gpu
    save = tuning.save_selection

    def stop(selection, path):
        save(selection, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "save_selection", stop)
    with pytest.raises(KeyboardInterrupt, match="stopped: the same command without --again goes on"):
        tune(TuneOptions(**options))
    first = load_or_start("sm_90_1", options["output"])
    assert [sizes.in_channels for sizes in first.choices] == [8]
    assert "tuning 0/2" in capsys.readouterr().out
    monkeypatch.setattr(tuning, "save_selection", save)
    measured.clear()
    report = tune(TuneOptions(**options))
    assert {sizes.in_channels for sizes in measured} == {16} and len(report.rows) == 1
    both = load_or_start("sm_90_1", options["output"])
    assert first.choices.items() < both.choices.items() and both.notes == first.notes and len(both.notes) == 1
    assert {choice.kernel for choice in both.choices.values()} == {1}
    assert not tune(TuneOptions(**options)).rows
    assert len(tune(TuneOptions(**options, again=True)).rows) == 2


def test_maps_are_those_of_layers():
    coords = random_coords(300)
    down, inverse = make_map("down_k3s2", coords), make_map("inverse_k3s2", coords)
    assert down.num_inputs == inverse.table.shape[1] == len(coords)
    assert inverse.num_inputs == down.table.shape[1] != len(coords)
    assert torch.equal(down.tap_pairs, inverse.tap_pairs)
    table, order = down.ordered
    assert torch.equal(table, down.table[:, order.long()])


def test_without_a_gpu_it_says_so(tmp_path):
    command = [sys.executable, "tools/benchmark.py", "tune", "--device", "cpu", "--output", tmp_path / "a.txt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "tune: needs a GPU" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.gpu
def test_a_run_writes_the_file_of_this_gpu(tmp_path):
    np.savez(tmp_path / "sweep.npz", pc=np.random.default_rng(0).uniform(0, 10, (900, 4)))
    path = tmp_path / "table.txt"
    options = {"input": tmp_path / "sweep.npz", "voxel_size": 0.8, "voxels": (None,), "output": path}
    report = tune(
        TuneOptions(cases=("subm_k3", "down_k2s2"), channels=[(64, 64)], dtype=("float16", "tf32"), **options)
    )
    assert len(report.rows) == 2 * 2 * 2
    gpu = gpu_name(torch.device("cuda"))
    first = load_or_start(gpu, path)
    assert first.notes[-1].startswith("20") and "sweep.npz" in first.notes[-1]
    assert all(row["error"] < 1e-3 and row["best_ms"] > 0 for row in report.rows)
    tune(TuneOptions(cases=("inverse_k3s2",), channels=[(32, 96)], dtype=("bfloat16",), passes=("forward",), **options))
    second = load_or_start(gpu, path)
    assert len(second.choices) == len(first.choices) + 1 and first.choices.items() <= second.choices.items()
