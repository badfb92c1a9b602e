# SPDX-License-Identifier: Apache-2.0
"""Where the scores of a checkpoint go, and what their files say of whose they are."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pcperc.engine.checkpoint import finished_checkpoint
from pcperc.engine.loading import LoadedCheckpoint
from pcperc.evaluation import cluster_metric, segmentation_metrics
from pcperc.evaluation.nuscenes_tracking import TRACKING_SUMMARY_NAME
from pcperc.evaluation.report import REPORT_NAME
from pcperc.files import write_text
from pcperc.simulated import is_simulated_root

NUSCENES_SUMMARY_NAME = "metrics_summary.json"
SCORES_NAMES = (
    REPORT_NAME,
    segmentation_metrics.SCORES_NAME,
    cluster_metric.SCORES_NAME,
    NUSCENES_SUMMARY_NAME,
    TRACKING_SUMMARY_NAME,
)

# Options of tools/test.py by which the same checkpoint has other scores on the same data.
CHANGING_SCORES = ("blank_images", "tracker", "votes", "tta", "precision", "detections", "fuse")


def scores_folder(work_dir: Path, checkpoint: Path) -> Path:
    """Return ``work_dir`` for its own checkpoints, and for any other a folder in it, named after that one.

    Its own lie directly in it; so does the one of its newest finished run, which a later run may have set aside. What
    another checkpoint scores thus replaces nothing of them.
    """
    checkpoint, finished = Path(checkpoint).resolve(), finished_checkpoint(work_dir)
    own = checkpoint.parent == Path(work_dir).resolve() or (finished is not None and checkpoint == finished.resolve())
    return Path(work_dir) if own else Path(work_dir) / f"{checkpoint.parent.name}_{checkpoint.stem}"


@contextmanager
def scores_say(folder: Path, facts: dict[str, Any]) -> Iterator[None]:
    """Add ``facts`` under "scored" to the files of scores that are written into ``folder`` in here."""
    before = {name: _stamp(folder / name) for name in SCORES_NAMES}
    yield
    for name, stamp in before.items():
        if _stamp(folder / name) not in (None, stamp):
            found = json.loads((folder / name).read_text(encoding="utf-8"))
            write_text(folder / name, json.dumps({"scored": facts, **found}, indent=1))


def facts_of_test(opened: LoadedCheckpoint, cfg: Config, options: Any) -> dict[str, Any]:
    """Return what files say of the scores of a checkpoint; ``options`` are of tools/test.py, ``cfg`` is its config."""
    config = options.config or opened.meta.get("config_file")
    changed = {name: getattr(options, name) for name in CHANGING_SCORES}
    changed = {name: value for name, value in changed.items() if value != getattr(type(options), name)}
    if "detections" in changed:
        changed["detections"] = short_path(changed["detections"])
    return {
        "checkpoint": short_path(opened.path),
        "config": None if config is None else short_path(config),
        **facts_of_data(cfg.get("data_root"), cfg.test_dataloader.dataset.get("split")),
        "trained_on_simulated_data": opened.simulated,
        "options": changed,
    }


def facts_of_data(root: str | Path | None, split: str | None) -> dict[str, Any]:
    """Return what files say of the data that was scored; ``root`` is its folder where the config names it."""
    data = None if root is None else short_path(root)
    return {"data": data, "split": split, "simulated_data": is_simulated_root(root)}


def short_path(path: str | Path) -> str:
    """Return a path below the working folder relative to it, of any other the last folder and the name.

    What a file says of its making is read on other machines too.
    """
    path, here = Path(os.path.abspath(path)), Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else "/".join(path.parts[-2:])


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes where a file is written anew."""
    if not path.is_file():
        return None
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_ino
