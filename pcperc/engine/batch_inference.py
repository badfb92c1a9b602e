# SPDX-License-Identifier: Apache-2.0
"""Detections of many frames by many workers on Ray Data, as a folder of parquet files in which every frame is once.

Frames are cut into parts of a few, and a worker writes the file of a part whole or not at all. So the part of a worker
that is killed is done again by another, and a run that is stopped goes on with the parts that are missing. A frame that
cannot be read stops nothing: its part has the others, and the next run tries it again.
"""

import json
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pcperc.engine.batch_frames import BatchOptions, FrameSource
from pcperc.engine.batch_parts import (
    BOX_COLUMNS,
    COLUMNS,
    Failure,
    part_paths,
    read_failures,
    read_part,
    write_part,
)
from pcperc.engine.config import ConfigError
from pcperc.engine.inference import predict
from pcperc.engine.loading import build_model
from pcperc.engine.messages import one_line, say
from pcperc.engine.progress import ProgressDisplay
from pcperc.files import only_writer, write_text
from pcperc.geometry import Detections
from pcperc.tables import import_arrow, read_table

MANIFEST_NAME = "_run.json"  # with _ before it, programs that read the folder as one table pass it over


def infer_on_ray(options: BatchOptions) -> list[Path]:
    """Detect objects in every frame and write ``<out>/part-NNNNNN.parquet``; frames that are there are kept.

    The frames are the files, or without any those of the split that the checkpoint's config tests on. Ray starts on
    this machine, or is the cluster that ``RAY_ADDRESS`` names; ``out`` and the data must then be seen by all of its
    machines.

    Returns:
        The parts, in order.
    Raises:
        ImportError: Ray or pyarrow is not installed.
        ConfigError: no frame, workers or frames_per_part < 1, a model that finds no boxes, or ``out`` holds
            results of something else.
        FileNotFoundError: a file is missing (then none is read).
        OSError: parts are missing at the end, the message says how many; or another process infers into ``out``.
        ValueError: frames could not be read, which were said by name, each with its error; all others are written.
    """
    ray = _import_ray()
    import_arrow()
    if (options.workers is not None and options.workers < 1) or options.frames_per_part < 1:
        raise ConfigError(
            f"--workers and --frames-per-part must be 1 or more, got {options.workers} and {options.frames_per_part}"
        )
    options = _absolute(options)
    source = FrameSource(options)
    with only_writer(options.out, "inferring"):
        return _infer_all(ray, options, source)


def _infer_all(ray: Any, options: BatchOptions, source: FrameSource) -> list[Path]:
    """Let Ray write the parts that are missing, look whether all are there, and say what failed."""
    parts = part_paths(options.out, len(source), options.frames_per_part)
    _agree_with_earlier_run(options, source)
    again = {number: read_failures(path) for number, path in enumerate(parts) if path.is_file()}
    missing = [number for number in range(len(parts)) if again.get(number, True)]
    failed = sum(map(len, again.values()))
    say(
        f"{len(source)} frames in {len(parts)} parts, {len(parts) - len(missing)} of them done already"
        + f"; {failed} frames that failed are tried again" * (failed > 0)
    )
    if missing:
        _run(ray, options, missing)
    still = [path for path in parts if not path.is_file()]
    if still:
        raise OSError(f"{len(still)} of {len(parts)} parts are missing, first {still[0]}; the same command goes on")
    for partial in options.out.glob(".part-*.partial"):  # of workers that were killed
        partial.unlink(missing_ok=True)
    failures = [failure for path in parts for failure in read_failures(path)]
    for failure in failures:
        say(f"{failure.frame} failed: {failure.error}")
    say(f"{len(source) - len(failures)} frames: {options.out}/part-*.parquet")
    if failures:
        raise ValueError(
            f"{len(failures)} of {len(source)} frames failed, as said above; the same command tries them again"
        )
    return parts


class PartWriter:
    """A worker: the model on its device, which writes one part after the other."""

    def __init__(self, options: BatchOptions, device: str) -> None:
        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        self.source = FrameSource(options)
        self.model = build_model(self.source.opened, torch.device(device), fuses=options.fuse)
        self.options = options
        self.paths = part_paths(options.out, len(self.source), options.frames_per_part)
        self.worker = f"{socket.gethostname()}/{os.getpid()}"

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Write the parts of a batch; return how many frames are in each, and how many failed."""
        failed = np.array([len(self.write(int(part))) for part in batch["part"]])
        frames = np.array([len(self._frames(int(part))) for part in batch["part"]])
        return {"part": batch["part"], "frames": frames - failed, "failed": failed}

    def write(self, part: int) -> list[Failure]:
        """Write a part where it is not there yet, or with what failed when it was written; return what fails now."""
        path, frames = self.paths[part], self._frames(part)
        rows, before = read_part(path, frames) if path.is_file() else ({}, None)
        failures = []
        for index in frames:
            if index not in rows:
                try:
                    rows[index] = self._row(self.source.sample(index))
                except (OSError, ValueError) as error:
                    failures.append(Failure(index, self.source.name(index), one_line(error)))
        if failures != before:
            write_part(path, [rows[index] for index in frames if index in rows], failures)
        return failures

    def _frames(self, part: int) -> range:
        first = part * self.options.frames_per_part
        return range(first, min(first + self.options.frames_per_part, len(self.source)))

    def _row(self, sample: dict) -> dict[str, Any]:
        found = predict(self.model, sample)
        found = (found["object"] if isinstance(found, dict) else found).numpy()
        found = Detections(found.boxes, found.scores, found.labels).filter(found.scores >= self.options.min_score)
        boxes = np.asarray(found.boxes, np.float32)
        return {
            "frame": sample["sample_token"],
            "scene": sample.get("scene_name", ""),
            "timestamp": float(sample.get("timestamp", "nan")),
            "class": [self.source.classes[label] for label in found.labels],
            "score": np.asarray(found.scores, np.float32),
            **{name: boxes[:, column] for column, name in enumerate(BOX_COLUMNS)},
            "worker": self.worker,
        }


def read_parts(out: Path) -> dict[str, Any]:
    """Return the columns of all parts of a finished run, in the order of its frames, without those that failed.

    Raises:
        FileNotFoundError: no run is there, or a part is missing.
    """
    manifest = Path(out) / MANIFEST_NAME
    if not manifest.is_file():
        raise FileNotFoundError(f"{manifest} is missing: tools/infer.py --ray writes it")
    run = _read_manifest(manifest)
    tables = [read_table(path, COLUMNS) for path in part_paths(Path(out), run["frames"], run["frames_per_part"])]
    return {name: [value for table in tables for value in table[name]] for name in COLUMNS}


def _run(ray: Any, options: BatchOptions, missing: Sequence[int]) -> None:
    """Let Ray's workers write the parts that are missing."""
    on_gpu = torch.cuda.is_available() if options.device is None else options.device.startswith("cuda")
    started = not ray.is_initialized()
    if started:
        _start(ray, options)
    try:
        resources = ray.cluster_resources()
        known = int(resources.get("GPU", 0)) if on_gpu else 1
        workers = min(options.workers or max(known, 1), len(missing))
        if on_gpu and workers > known:
            raise ConfigError(f"--workers {workers}: one worker a GPU, Ray has {known}")
        ray.data.DataContext.get_current().enable_progress_bars = False
        parts = ray.data.from_items([{"part": part} for part in missing], override_num_blocks=len(missing))
        done = parts.map_batches(
            PartWriter,
            fn_constructor_args=(options, "cuda" if on_gpu else "cpu"),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_gpus=1 if on_gpu else None,
            num_cpus=None if on_gpu else 1,
        )  # by default a worker that is killed is started again, and its part given to another meanwhile
        say(f"{workers} workers, {'one a GPU' if on_gpu else 'on CPUs'}")
        with ProgressDisplay("inferring", len(missing)) as display:
            failed = 0
            for batch in done.iter_batches(batch_size=1):
                failed += int(batch["failed"].sum())
                display.advance(f"{failed} frames failed" if failed else "")
    finally:
        if started:
            ray.shutdown()


def _start(ray: Any, options: BatchOptions) -> None:
    """Connect to the cluster of RAY_ADDRESS, or start Ray here; workers find pcperc where this process found it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # its plans, beside our own progress
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(dict.fromkeys([root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))
    chosen: dict[str, Any] = {"runtime_env": {"env_vars": {"PYTHONPATH": path}}, "log_to_driver": False}
    if "RAY_ADDRESS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        chosen |= {"num_cpus": max(cores, options.workers or 1) + 1, "include_dashboard": False}
    ray.init(logging_level="error", **chosen)


def _import_ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(f"infer --ray: Ray must be installed (pip install 'pcperc[ray]'): {error}") from error
    return ray


def _absolute(options: BatchOptions) -> BatchOptions:
    """Return the options with paths that mean the same to a process in another folder."""
    values = {name: getattr(options, name) for name in options.__dataclass_fields__}
    for name in ("config", "checkpoint", "out"):
        values[name] = Path(values[name]).resolve()
    for name in ("files", "calibration"):
        values[name] = tuple(Path(path).resolve() for path in values[name])
    return BatchOptions(**values)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: {error}; choose another --out") from error
    if not isinstance(run, dict) or not {"frames", "frames_per_part"} <= run.keys():
        raise ConfigError(f"{path} must say of which frames the parts are, it does not; choose another --out")
    return run


def _agree_with_earlier_run(options: BatchOptions, source: FrameSource) -> None:
    """Write the description of the run, or raise where ``out`` holds parts of another one."""
    path, mine = options.out / MANIFEST_NAME, source.identity()
    if path.is_file():
        earlier = _read_manifest(path)
        for key, value in mine.items():
            if earlier.get(key) != value:
                raise ConfigError(
                    f"{options.out} holds results of another run ({key}: {earlier.get(key)} there, {value} here); "
                    "choose another --out"
                )
    elif options.out.is_dir() and any(options.out.glob("part-*.parquet")):
        raise ConfigError(f"{options.out} holds parts but no {MANIFEST_NAME}; choose another --out")
    write_text(path, json.dumps(mine, indent=1))
