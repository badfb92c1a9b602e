# SPDX-License-Identifier: Apache-2.0
"""Two processes under torchrun on a CPU: the same gradients as one, and a killed worker comes back."""

import re
import socket
from pathlib import Path

import pytest
import torch

from pcperc.engine import distributed
from pcperc.engine.checkpoint import finished_checkpoint, load_checkpoint
from pcperc.engine.distributed import DeviceError, pick_device
from pcperc.engine.runner import Runner
from pcperc.engine.training import TrainOptions, train
from tests.engine.helpers import TOY, read_losses, run_tool

TWO = ("--standalone", "--nproc-per-node", "2")


def test_gradients_equal_one_process_at_twice_the_batch():
    process = run_tool("-m", "tests.engine.distributed_gradients", torchrun=TWO)
    assert process.returncode == 0, process.stderr
    numbers = {key: float(value) for key, value in re.findall(r"^([a-z ]+) ([\d.e+-]+)$", process.stdout, re.M)}
    assert numbers["largest gradient"] > 1e-3, "gradients that vanish would equal anything"
    assert numbers["difference"] < 1e-6 and numbers["running"] < 1e-6, numbers


def test_bevfusion_gradients_equal_one_process_at_twice_the_batch():
    """With other numbers of boxes and points in each process; in float64, see distributed_bevfusion.py."""
    process = run_tool("-m", "tests.engine.distributed_bevfusion", torchrun=TWO)
    assert process.returncode == 0, process.stderr
    pattern = r"^(.+?) \|(?: largest ([\d.e+-]+) \|)? tensors (\d+) \| difference ([\d.e+-]+)"
    lines = {name: values for name, *values in re.findall(pattern, process.stdout, re.M)}
    cases = ("unequal", "second process without boxes", "no boxes")
    assert set(lines) == {*cases, *(f"{case}, vanishing" for case in cases)}, process.stdout
    for case in cases:
        largest, tensors, difference = lines[case]
        _, vanishing, remainder = lines[f"{case}, vanishing"]
        assert float(largest) > 1, "gradients that vanish would equal anything"
        assert float(difference) < 1e-6 and float(remainder) < 1e-9, process.stdout
        assert int(tensors) > 4 * int(vanishing), "without boxes, the branches that regress them have no gradient"


def test_killed_worker_is_restarted_and_training_resumes(tmp_path):
    keys = "train_dataloader.dataset"
    options = ["--device", "cpu", "--cfg-options", f"{keys}.kill_rank=1", f"{keys}.kill_marker={tmp_path / 'marker'}"]
    whole = ["tools/train.py", TOY, "--work-dir", tmp_path / "whole", *options]
    process = run_tool(*whole, torchrun=TWO)
    assert process.returncode == 0, process.stderr
    killed = ["tools/train.py", TOY, "--work-dir", tmp_path / "killed", *options, f"{keys}.kill_at=30"]
    process = run_tool(*killed, torchrun=(*TWO, "--max-restarts", "1"))
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "marker").exists() and "resuming" in process.stdout
    assert read_losses(tmp_path / "killed") == read_losses(tmp_path / "whole")
    a, b = (load_checkpoint(finished_checkpoint(tmp_path / name)) for name in ("whole", "killed"))
    assert len(a["random_states"]) == 2, "of both processes"
    assert not torch.equal(a["random_states"][0]["torch"], a["random_states"][1]["torch"]), "dropout must differ"
    for key, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][key]), key


def test_training_leaves_no_thread_of_the_process_group(tmp_path, monkeypatch):
    """A thread of gloo that is left when Python ends may abort the process after all is done."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "WORLD_SIZE": "1"}
    variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    seen, plain = [], Runner.train
    monkeypatch.setattr(Runner, "train", lambda self: seen.append(torch.distributed.is_initialized()) or plain(self))
    train(TrainOptions(config=Path(TOY), device="cpu", work_dir=tmp_path, overrides={"train_cfg.max_epochs": 1}))
    assert seen == [True], "this process was in no group"
    assert not [name for name in thread_names() if "gloo" in name]


def thread_names() -> list[str]:
    """Return what the system calls the threads of this process, native ones too."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_no_gpu_where_one_was_asked_for():
    with pytest.raises(
        DeviceError, match=r"^--device cuda: no CUDA device was found \(.*torch .*\); use --device cpu$"
    ):
        pick_device("cuda")
    assert pick_device(None) == pick_device("cpu") == torch.device("cpu")


def test_a_gpu_without_cuda_operators_is_not_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(distributed, "HAS_CUDA_OPS", False)
    assert pick_device(None) == torch.device("cpu")
    with pytest.raises(DeviceError, match="^--device cuda: pcperc was built without CUDA operators"):
        pick_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:", "cpu:0"])
def test_unknown_device(name):
    with pytest.raises(DeviceError, match=f"^--device must be cpu, cuda or cuda:N, got '{name}'$"):
        pick_device(name)


def test_outside_torchrun_nothing_starts(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    distributed.start_process_group(torch.device("cpu"))
    assert not torch.distributed.is_initialized()
    assert distributed.is_main() and distributed.gather_objects(5) == [5] and distributed.restart_count() == 0
