# SPDX-License-Identifier: Apache-2.0
"""Jobs of a comparison in the process of the test, where tools are imported already."""

import importlib
import sys
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import pytest

from pcperc.benchmark import jobs
from pcperc.engine.messages import run_tool


class InProcess:
    """Stands for `subprocess.Popen`: the tool runs here and now, as in a process of its own."""

    commands: list[list[str]] = []
    fails = stopped = ""

    def __init__(self, command, *, stdout, **options):
        if self.stopped and self.stopped in str(command):
            raise KeyboardInterrupt
        self.commands.append(command)
        tool = importlib.import_module(command[1].removesuffix(".py").replace("/", "."))
        before, sys.argv = sys.argv, command[1:]
        with redirect_stdout(stdout), redirect_stderr(stdout):
            self.returncode = 7 if self.fails and self.fails in str(command) else run_tool(tool.main)
        sys.argv = before

    def poll(self):
        return self.returncode


def run_in_process(monkeypatch: pytest.MonkeyPatch) -> type[InProcess]:
    """Let `JobQueue` run its tools so; what is returned has their commands, and is told which fail."""
    monkeypatch.setattr(InProcess, "commands", [])
    monkeypatch.setattr(InProcess, "fails", "")
    monkeypatch.setattr(InProcess, "stopped", "")
    stub = SimpleNamespace(Popen=InProcess, DEVNULL=None, TimeoutExpired=TimeoutError)
    monkeypatch.setattr(jobs, "subprocess", stub)
    monkeypatch.setattr(jobs, "SECONDS_BETWEEN_LOOKS", 0)
    return InProcess
