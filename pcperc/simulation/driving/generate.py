# SPDX-License-Identifier: Apache-2.0
"""Writes a whole simulated nuScenes root: scenes in parallel, then maps and tables, then one rename."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from pcperc.simulation.driving.maps import add_layers, canvas_edge, draw_mask
from pcperc.simulation.driving.scene import RECORDINGS, locate, record_scene, scene_world
from pcperc.simulation.nuscenes_map import MapLayers
from pcperc.simulation.nuscenes_scene import SceneWriter
from pcperc.simulation.nuscenes_writer import NuScenesWriter

logger = logging.getLogger(__name__)

VERSION = "v1.0-sim"
TRAIN, VAL = "sim_train", "sim_val"
STAMP = "simulation.json"  # written last: says with which settings a root was made
_stop = None  # of a worker: a flag shared with the process that started it
GENERATOR = 1  # raise whenever the same settings give other bytes


@dataclass(frozen=True)
class Settings:
    """What fixes a simulated data set bit for bit.

    Attributes:
        scenes: number of scenes, at least 2. size: "tiny", "small" or "full" (``RECORDINGS``). seed: any integer >= 0.
    """

    scenes: int
    size: str
    seed: int

    def __post_init__(self) -> None:
        if not isinstance(self.scenes, int) or self.scenes < 2:
            raise ValueError(
                f"simulate: scenes must be an integer >= 2 (one to train, one to score), got {self.scenes}"
            )
        if self.size not in RECORDINGS:
            raise ValueError(f"simulate: size must be one of {', '.join(RECORDINGS)}, got {self.size!r}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"simulate: seed must be an integer >= 0, got {self.seed}")

    def stamp(self) -> dict:
        """Return what ``STAMP`` holds."""
        return {"simulated": "driving scenes in nuScenes format", "generator": GENERATOR, **asdict(self)}


def split_of(index: int, scenes: int) -> str:
    """Return the split of a scene: every fourth is for scoring, of fewer than four the last."""
    return VAL if index % 4 == 3 or (scenes < 4 and index == scenes - 1) else TRAIN


def make_scene(root: Path, settings: Settings, index: int) -> SceneWriter:
    """Simulate scene ``index`` into ``root`` and return its rows; depends on nothing but the arguments."""
    location, _ = locate(index)
    world = scene_world(settings.seed, index)
    scene = SceneWriter(
        root, f"sim-{index + 1:04d}", split=split_of(index, settings.scenes), location=location,
        log=f"sim-log-{index + 1:04d}", description="simulated",
    )  # fmt: skip
    rng = np.random.default_rng([settings.seed, index, 2])
    return record_scene(scene, world, RECORDINGS[settings.size], rng)


def _work(root: Path, settings: Settings, index: int) -> tuple[int, SceneWriter]:
    if _stop.value:
        raise InterruptedError  # nobody waits for this scene any more
    cv2.setNumThreads(1)  # every core has its own scene
    return index, make_scene(root, settings, index)


def simulate(out: str | Path, settings: Settings, *, workers: int = 1, overwrite: bool = False, progress=None) -> bool:
    """Write a simulated data set, or keep the one that is there if it was made with the same settings.

    The data set is built beside ``out`` and renamed at the end, so ``out`` is complete whenever it exists.

    Args:
        out: folder of the data set. workers: processes; the result does not depend on it.
        overwrite: replace a simulated data set of other settings. A folder that the simulator did not write is never
            touched.
        progress: called with (scenes done, scenes in all) as work goes on.
    Returns:
        True where it was written, False where it was there.
    Raises:
        FileExistsError: ``out`` holds something else. OSError: the disk is full or not writable.
    """
    out = Path(out)
    if _reusable(out, settings, overwrite):
        return False
    _sweep_up(out)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        scenes = _run(partial, settings, workers, progress)
        _write_tables(partial, settings, scenes)
        (partial / STAMP).write_text(json.dumps(settings.stamp(), indent=1) + "\n", encoding="utf-8")
        if _reusable(out, settings, overwrite):  # another process finished the same set meanwhile
            shutil.rmtree(partial)
            return False
        if out.exists():
            shutil.rmtree(out)
        os.rename(partial, out)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if error.errno == errno.ENOSPC:
            raise OSError(f"simulate: the disk of {out} is full; nothing was left behind") from error
        raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return True


def _sweep_up(out: Path) -> None:
    """Remove what killed runs left beside ``out``; the folders of running ones stay."""
    for folder in out.parent.glob(f".{out.name}.partial-*"):
        try:
            os.kill(int(folder.name.rpartition("-")[2]), 0)
        except (ValueError, ProcessLookupError):
            shutil.rmtree(folder, ignore_errors=True)
        except PermissionError:
            continue


def _reusable(out: Path, settings: Settings, overwrite: bool) -> bool:
    """Whether ``out`` already holds what is asked for; raises where it holds something else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise FileExistsError(
            f"simulate: {out} exists and was not written by the simulator; choose another --out"
        ) from None
    if found == settings.stamp() and (out / VERSION).is_dir():
        return True
    if not overwrite:
        raise FileExistsError(
            f"simulate: {out} was made with other settings {found}; pass --overwrite or another --out"
        )
    return False


def _run(root: Path, settings: Settings, workers: int, progress) -> dict[int, SceneWriter]:
    """Simulate all scenes, in this process or in several."""
    report = progress or (lambda done, total: None)
    report(0, settings.scenes)
    done: dict[int, SceneWriter] = {}
    if workers <= 1:
        for index in range(settings.scenes):
            done[index] = make_scene(root, settings, index)
            report(len(done), settings.scenes)
        return done
    # Spawned, not forked: the parent may hold threads (torch, a progress display). Compiled code comes from the cache.
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.RawValue("b", 0)  # has no lock that a worker could die with
    pool = ProcessPoolExecutor(
        min(workers, settings.scenes), mp_context=spawn, initializer=_begin_worker, initargs=(stop,)
    )
    try:
        with _no_interrupt():  # which a worker would answer with a traceback while it starts
            jobs = [pool.submit(_work, root, settings, index) for index in range(settings.scenes)]
        for job in as_completed(jobs):
            index, scene = job.result()
            done[index] = scene
            report(len(done), settings.scenes)
    except BrokenProcessPool as error:
        raise OSError(
            "simulate: a worker process was killed, perhaps for want of memory; try fewer --workers"
        ) from error
    finally:
        stop.value = 1
        pool.shutdown(wait=True, cancel_futures=True)
    return done


def _begin_worker(stop) -> None:
    """Let Ctrl-C end a worker without a word: the parent process has something to say, and sets ``stop``."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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


def _write_tables(root: Path, settings: Settings, scenes: dict[int, SceneWriter]) -> None:
    """Write maps and tables of all scenes."""
    places: dict[str, list[int]] = {}
    for index in range(settings.scenes):
        places.setdefault(locate(index)[0], []).append(index)
    with NuScenesWriter(root, VERSION) as writer:
        for index in range(settings.scenes):
            writer.add_scene(scenes[index])
        for location, indices in places.items():
            edge = canvas_edge(len(indices))
            roads = [scene_world(settings.seed, index).road for index in indices]
            layers = MapLayers(canvas_edge=(edge, edge))
            for road in roads:
                add_layers(layers, road)
            writer.set_map(location, draw_mask(roads, edge), layers)
