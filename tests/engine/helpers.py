# SPDX-License-Identifier: Apache-2.0
"""Runs of tools/train.py on the toy config, in this process and in their own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOY = "tests/engine/toy_config.py"
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith(("TORCHELASTIC", "PYTEST"))},
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


def run_tool(*arguments, torchrun: tuple[str, ...] = (), timeout: float = 120) -> subprocess.CompletedProcess:
    """Run a tool in its own process, or under torchrun with these options; return what it printed and its status."""
    launcher = ["-m", "torch.distributed.run", *torchrun] if torchrun else []
    command = [sys.executable, *launcher, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout)


def read_losses(work_dir: Path) -> dict[int, dict]:
    """Return the logged line of each iteration, of all runs in ``work_dir``; a later run replaces an earlier one."""
    lines = {}
    for path in sorted(Path(work_dir).glob("*/losses.jsonl"), key=lambda p: p.stat().st_mtime_ns):
        for text in path.read_text().splitlines():
            line = json.loads(text)
            lines[line["iter"]] = line
    return lines


def killed(process: subprocess.CompletedProcess) -> bool:
    return process.returncode == -signal.SIGKILL
