# SPDX-License-Identifier: Apache-2.0
"""Options of a training, runs of tools in their own processes, killed ones too, and the comparison of two runs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from pcperc.engine.checkpoint import finished_checkpoint, load_checkpoint
from pcperc.engine.training import TrainOptions

ROOT = Path(__file__).resolve().parents[2]
TOY = "tests/engine/toy_config.py"
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith(("TORCHELASTIC", "PYTEST"))},
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": str(torch.get_num_threads()),  # torch's sums differ in the last bit by the number of threads
    "CUDA_VISIBLE_DEVICES": "",
}


def options(config: Path, tmp_path: Path, **more) -> TrainOptions:
    """Train on the CPU in the folder ``work``."""
    return TrainOptions(config=config, work_dir=tmp_path / "work", device="cpu", **more)


def run_tool(*arguments, torchrun: tuple[str, ...] = (), timeout: float = 120) -> subprocess.CompletedProcess:
    """Run a tool in its own process, or under torchrun with these options; return what it printed and its status."""
    launcher = ["-m", "torch.distributed.run", *torchrun] if torchrun else []
    command = [sys.executable, *launcher, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout)


@contextlib.contextmanager
def running_tool(*arguments, log: Path) -> Iterator[subprocess.Popen]:
    """Start a tool in a process group of its own, which does not outlive the block; what it prints goes to ``log``."""
    with open(log, "w") as file:
        command = [sys.executable, *map(str, arguments)]
        process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=file, stderr=file, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def kill_at_iteration(process: subprocess.Popen, work_dir: Path, iteration: int, *, timeout: float = 120) -> None:
    """Send SIGKILL to the tool and all its processes as soon as it has logged the losses of ``iteration``."""
    end = time.monotonic() + timeout
    while max(read_losses(work_dir), default=0) < iteration and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    assert process.poll() is None, f"ended with status {process.returncode} before iteration {iteration}"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read_losses(work_dir: Path) -> dict[int, dict]:
    """Return the logged line of each iteration, of all runs in ``work_dir``; a later run replaces an earlier one."""
    lines = {}
    for path in sorted(Path(work_dir).glob("*/losses.jsonl"), key=lambda p: p.stat().st_mtime_ns):
        for text in path.read_text().splitlines(keepends=True):
            if not text.endswith("\n"):
                continue  # is just being written, or was when the run was killed
            line = json.loads(text)
            lines[line["iter"]] = line
    return lines


def killed(process: subprocess.CompletedProcess) -> bool:
    return process.returncode == -signal.SIGKILL


def assert_same_run(one: Path, other: Path, *, from_iteration: int = 1) -> None:
    """Losses and every tensor of the last checkpoint are equal to the last bit."""
    ours, theirs = read_losses(one), read_losses(other)
    assert ours.keys() == theirs.keys()
    for number in range(from_iteration, len(ours) + 1):
        assert ours[number] == theirs[number], f"iteration {number}"
    a, b = (load_checkpoint(finished_checkpoint(folder)) for folder in (one, other))
    compared = ("state_dict", "ema_state_dict", "optimizer", "param_schedulers", "random_states")
    differing = [key for key in compared if not same(a[key], b[key])]
    assert not differing


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
