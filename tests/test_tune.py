# SPDX-License-Identifier: Apache-2.0
"""tools/benchmark.py tune: what it chooses, how a stopped run goes on, and a run on a GPU."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pcperc.benchmark import tune as tuning
from pcperc.benchmark.selection import Choice, Selection, gpu_name, load_or_start
from pcperc.benchmark.tune import TuneOptions, tune
from tests.test_selection_file import FORWARD, ROOT, WEIGHT_GRAD
from tests.test_tuned_size import OnCpu


@pytest.fixture(autouse=True)
def no_folder_of_the_user(monkeypatch):
    monkeypatch.delenv("PCPERC_SELECTION", raising=False)


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
