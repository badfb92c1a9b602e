# SPDX-License-Identifier: Apache-2.0
"""Runs the independent parts of a simulation in several processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2

Result = TypeVar("Result")
_stop = None  # of a worker: a flag shared with the process that started it


def run_jobs(
    job: Callable[[int], Result], count: int, *, workers: int, progress: Callable[[int, int], None] | None
) -> dict[int, Result]:
    """Call ``job`` with 0 to ``count`` - 1, in this process or in several, and return the results by number.

    Args:
        job: must be picklable and depend on nothing but its number. progress: called with (jobs done, jobs in all).
    Raises:
        OSError: a worker process was killed.
    """
    report = progress or (lambda done, total: None)
    report(0, count)
    done: dict[int, Result] = {}
    if workers <= 1:
        for index in range(count):
            done[index] = job(index)
            report(len(done), count)
        return done
    # Spawned, not forked: the parent may hold threads (torch, a progress display). Compiled code comes from the cache.
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.RawValue("b", 0)  # has no lock that a worker could die with
    pool = ProcessPoolExecutor(min(workers, count), mp_context=spawn, initializer=_begin_worker, initargs=(stop,))
    try:
        with _no_interrupt():  # which a worker would answer with a traceback while it starts
            jobs = [pool.submit(_work, job, index) for index in range(count)]
        for finished in as_completed(jobs):
            index, result = finished.result()
            done[index] = result
            report(len(done), count)
    except BrokenProcessPool as error:
        raise OSError(
            "simulate: a worker process was killed, perhaps for want of memory; try fewer --workers"
        ) from error
    finally:
        stop.value = 1
        pool.shutdown(wait=True, cancel_futures=True)
    return done


def _work(job: Callable[[int], Result], index: int) -> tuple[int, Result]:
    if _stop.value:
        raise InterruptedError  # nobody waits for this part any more
    return index, job(index)


def _begin_worker(stop) -> None:
    """Let Ctrl-C end a worker without a word: the parent process has something to say, and sets ``stop``."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cv2.setNumThreads(1)  # every core has its own part


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Ignore Ctrl-C in here, and in processes that are started in here."""
    if threading.current_thread() is not threading.main_thread():  # others cannot set signal handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
