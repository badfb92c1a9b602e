# SPDX-License-Identifier: Apache-2.0
"""Runs of tools side by side, each in a process of its own on the least loaded device, after those that it needs."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pcperc.engine.messages import EXPECTED_ERRORS, one_line, say

SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_TO_END = 10.0  # of a process that was asked to


@dataclass(frozen=True)
class Job:
    """One run of a tool.

    Attributes:
        name: unique; its log is called so.
        command: gives what stands behind ``python``, without ``--device``; it is called when the job begins.
        is_done: whether its result is there; asked before anything runs, when its turn comes, and when the command has
            ended.
        needs: names of jobs that must be done before.
        on_device: whether it is given a ``--device``. One that is not takes no place of those that are.
    """

    name: str
    command: Callable[[], Sequence[str]]
    is_done: Callable[[], bool]
    needs: tuple[str, ...] = ()
    on_device: bool = True


@dataclass
class JobQueue:
    """Runs jobs; what is done already is left as it is, and what needs a failed one is left out.

    Args:
        devices: such as "cuda:0", for ``--device``.
        side_by_side: how many run at once on devices, and as many without beside them, >= 1; of several each has its
            part of the cores (``OMP_NUM_THREADS``, unless that is set).
        logs: folder that receives ``<name>.log`` with the command and all that it printed.
    """

    devices: Sequence[str]
    side_by_side: int
    logs: Path
    failed: dict[str, str] = field(default_factory=dict)  # name to what was wrong
    seconds: dict[str, float] = field(default_factory=dict)  # name to how long it took, of those that ran
    _running: "list[_Run]" = field(default_factory=list)

    def run(self, jobs: Sequence[Job], *, after_each: Callable[[], None] = lambda: None) -> dict[str, str]:
        """Run all that is not done; an earlier one in the list goes first where several could.

        Args:
            after_each: called whenever a job was found to be done, so that what is finished can be written down.

        Returns:
            ``failed``, one line for each job that did not come to its end.
        Raises:
            Whatever ``is_done`` raises before the first job begins; later that is a failure of its job. After anything
            that stops it, such as Ctrl-C, no process is left; on Linux none is after SIGKILL either.
        """
        waiting = [job for job in jobs if not job.is_done()]
        self._total, self._count = len(jobs), len(jobs) - len(waiting)
        if self._count:
            say(f"[{self._count}/{self._total}] finished already")
        try:
            while waiting or self._running:
                for job in self._ready(waiting):
                    waiting.remove(job)
                    self._start(job)
                if self._collect():
                    after_each()
                if self._running:
                    time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            self._stop()
        return self.failed

    def _ready(self, waiting: list[Job]) -> Iterator[Job]:
        for job in list(waiting):
            unmet = {other.name for other in waiting} | {run.job.name for run in self._running}
            if lost := [name for name in job.needs if name in self.failed]:
                waiting.remove(job)
                self._fail(job, f"needs {lost[0]}")
            elif self._has_place(job) and not unmet.intersection(job.needs):
                yield job

    def _has_place(self, job: Job) -> bool:
        return sum(run.job.on_device == job.on_device for run in self._running) < self.side_by_side

    def _start(self, job: Job) -> None:
        try:
            if job.is_done():  # by another job since
                self._count += 1
                say(f"[{self._count}/{self._total}] {job.name}: finished already")
                return
            command = [sys.executable, *map(str, job.command())]
        except EXPECTED_ERRORS as error:
            self._fail(job, one_line(error))
            return
        device = None
        if job.on_device:
            device = min(self.devices, key=lambda name: sum(run.device == name for run in self._running))
            command += ["--device", device]
        self.logs.mkdir(parents=True, exist_ok=True)
        environment = dict(os.environ)
        if self.side_by_side > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(num_cores() // self.side_by_side, 1)))
        path = self.logs / f"{job.name}.log"
        with open(path, "a") as log:
            print("$", *command, file=log, flush=True)
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                preexec_fn=_end_with_the_queue if _prctl else None,
            )
        self._running.append(_Run(job, device, process, path, time.monotonic()))
        say(f"[{self._count}/{self._total}] {job.name}: begins{f' on {device}' if device else ''}, {path}")

    def _collect(self) -> bool:
        """Take leave of runs that ended; return whether one of them is done."""
        count = self._count
        for run in [run for run in self._running if run.process.poll() is not None]:
            self._running.remove(run)
            status, seconds = run.process.returncode, time.monotonic() - run.started
            try:
                is_done = status == 0 and run.job.is_done()
            except EXPECTED_ERRORS as error:
                self._fail(run.job, one_line(error))
                continue
            if is_done:
                self._count += 1
                self.seconds[run.job.name] = seconds
                say(f"[{self._count}/{self._total}] {run.job.name}: finished in {seconds:.0f} s")
            else:
                self._fail(run.job, f"ended with status {status}, {_last_line(run.log)} ({run.log})")
        return self._count > count

    def _fail(self, job: Job, reason: str) -> None:
        self.failed[job.name] = reason
        say(f"[{self._count}/{self._total}] {job.name}: FAILED, {reason}")

    def _stop(self) -> None:
        """End what is still running; the tools keep what they had."""
        for run in self._running:
            run.process.terminate()
        for run in self._running:
            try:
                run.process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                run.process.kill()
                run.process.wait()
        self._running.clear()


def require_none(failed: dict[str, str]) -> None:
    """Raise RuntimeError where some of the runs of a queue failed; it names the first."""
    if failed:
        name, reason = next(iter(failed.items()))
        raise RuntimeError(f"{len(failed)} runs failed, first {name}: {reason}; the same command tries them again")


@dataclass(frozen=True)
class _Run:
    job: Job
    device: str | None
    process: subprocess.Popen
    log: Path
    started: float


_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None  # found here: little is safe after a fork
_PR_SET_PDEATHSIG = 1


def _end_with_the_queue() -> None:
    """Let the system end this process once the queue's is gone: its locks would be in the way of the next queue."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1]  # the command at the least


def devices_of_jobs(wanted: str | None, device: torch.device) -> list[str]:
    """Return all GPUs, or the one that was named, or the CPU.

    Args:
        wanted: behind ``--device``, or None.
        device: what `pick_device` made of it.
    """
    if device.type == "cuda" and ":" not in (wanted or ""):
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [str(device)]


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
