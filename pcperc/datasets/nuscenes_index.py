# SPDX-License-Identifier: Apache-2.0
"""Prepares a nuScenes version: one JSON line a sample with all that reading it needs, so that training opens no table.

Written to ``<root>/pcperc/<version>/<split>.jsonl``; a file ``<split>.info.json`` beside it says from which tables. The
lines of each scene are kept in a part until all are there, so a run that was stopped goes on where it was; the index
itself appears by one rename when it is complete.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pcperc.datasets.nuscenes_record import describe_sample
from pcperc.datasets.nuscenes_tables import TABLE_NAMES, NuScenesTables, read_table, table_folder
from pcperc.files import naming, only_writer, write_text, written_whole

logger = logging.getLogger(__name__)

FORMAT = 1
NUM_SWEEPS = 9
_OFFICIAL_SPLITS = {"mini": ("mini_train", "mini_val"), "trainval": ("train", "val"), "test": ("test",)}


def index_path(root: str | Path, version: str, split: str) -> Path:
    """Return where the index of a split lies."""
    return Path(root) / "pcperc" / version / f"{split}.jsonl"


def gt_database_path(root: str | Path, version: str, split: str) -> Path:
    """Return where the GT-paste database of a training split lies."""
    return Path(root) / "pcperc" / version / f"{split}_gt_database"


def split_scenes(root: str | Path, version: str, scenes: Sequence[str]) -> dict[str, list[str]]:
    """Return the splits of a version that have scenes, each with its scene names in the order of ``scenes``.

    These are the official ones of v1.0-mini, -trainval and -test, and those that splits.json in the table folder lists.

    Raises:
        ValueError: splits.json is malformed or names an unknown scene, or no scene is in any split.
    """
    from nuscenes.utils.splits import create_splits_scenes  # imports matplotlib: only preparation pays for it

    official = create_splits_scenes()
    kinds = [names for ending, names in _OFFICIAL_SPLITS.items() if version.endswith(f"-{ending}")]
    wanted = {name: set(official[name]) for names in kinds for name in names}
    path = table_folder(root, version) / "splits.json"
    if path.is_file():
        try:
            custom = json.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"nuScenes: {path} must be JSON, but cannot be read: {error}") from error
        if not isinstance(custom, dict) or not all(isinstance(names, list) for names in custom.values()):
            raise ValueError(f"nuScenes: {path} must be an object of lists of scene names")
        for name, names in custom.items():
            unknown = sorted(set(names) - set(scenes))
            if unknown:
                raise ValueError(f"nuScenes: {path} must name scenes of {version}, got {unknown[0]!r} in {name!r}")
            if name not in official:
                wanted[name] = set(names)
            elif name not in wanted:  # the devkit, too, takes such a name for the official split alone
                raise ValueError(f"nuScenes: {path} must not name a split {name!r}: that is an official one's name")
    found = {split: [name for name in scenes if name in names] for split, names in wanted.items()}
    found = {split: names for split, names in found.items() if names}
    if not found:
        raise ValueError(f"nuScenes: no scene of {version} is in a split; official scene names or {path} are needed")
    return found


def prepare_nuscenes(
    root: str | Path,
    version: str,
    *,
    splits: Sequence[str] | None = None,
    num_sweeps: int = NUM_SWEEPS,
    overwrite: bool = False,
    show_progress: bool = True,
) -> dict[str, Path]:
    """Write the index of each split of a version.

    An index that was made from the same tables and lists as many sweeps, or more, is kept. Where another process
    prepares the version, this one waits for it.

    Args:
        root: folder of the data set.
        version: v1.0-mini, v1.0-trainval, v1.0-test or any other table folder (then with a splits.json).
        splits: names of splits; None takes all that have scenes.
        num_sweeps: how many older sweeps each sample lists at the most.
        overwrite: write indices anew that are complete.
        show_progress: show a bar with the time left.
    Returns:
        Path of the index by split.
    Raises:
        FileNotFoundError: the version or one of its tables is missing.
        ValueError: unknown split, num_sweeps < 0, or something wrong inside the tables; the message names the table
            and the row.
    """
    if num_sweeps < 0:
        raise ValueError(f"nuScenes: the number of older sweeps must be 0 or more, got {num_sweeps}")
    folder = table_folder(root, version)
    info = {"format": FORMAT, "num_sweeps": int(num_sweeps), "tables": _fingerprint(folder)}
    scenes = {scene["name"]: scene for scene in read_table(folder, "scene")}
    known = split_scenes(root, version, list(scenes))
    for split in splits or known:
        if split not in known:
            raise ValueError(f"nuScenes: split of {version} must be one of {', '.join(known)}, got {split!r}")
    paths = {split: index_path(root, version, split) for split in splits or known}
    pending = _pending(paths, info, overwrite)
    for path in paths.values():
        if path not in pending.values():
            logger.info("%s is complete already; nothing done", path)
    if pending:
        with one_preparation(root, version):
            pending = _pending(paths, info, overwrite)  # another process may have written them meanwhile
            rows = {split: [scenes[name] for name in known[split]] for split in pending}
            if pending:
                _write_indices(root, version, pending, rows, info, show_progress)
    return paths


def one_preparation(root: str | Path, version: str) -> AbstractContextManager[None]:
    """Let one process at a time write what is prepared of a version; others wait, and find it complete."""
    return only_writer(index_path(root, version, "any").parent, "preparing", wait=True)


def _pending(paths: dict[str, Path], info: dict, overwrite: bool) -> dict[str, Path]:
    """Return the indices that have to be written."""
    complete = [p for p in paths.values() if not overwrite and p.is_file() and _covers(_read_info(p), info)]
    return {split: path for split, path in paths.items() if path not in complete}


def _write_indices(
    root: str | Path, version: str, paths: dict[str, Path], scenes: dict[str, list], info: dict, show_progress: bool
) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), disable=not show_progress) as progress:
        reading = progress.add_task("reading tables", total=len(TABLE_NAMES))

        def on_table(name: str) -> None:
            progress.update(reading, advance=1, description=f"reading {name}.json")

        tables = NuScenesTables(root, version, on_table=on_table)
        progress.update(reading, completed=len(TABLE_NAMES), description="tables")
        for split, path in paths.items():
            bar = progress.add_task(f"indexing {split}", total=len(scenes[split]))
            parts = _index_scenes(tables, scenes[split], path, info, lambda bar=bar: progress.advance(bar))
            _merge(parts, path, info)


def _index_scenes(tables: NuScenesTables, scenes: list[dict], path: Path, info: dict, on_scene) -> list[Path]:
    """Write the part of every scene that has none yet; return the parts in order."""
    folder = path.with_name(f".{path.stem}.parts")
    if _read_info(folder / "parts") != info:
        shutil.rmtree(folder, ignore_errors=True)
        with naming(folder):
            folder.mkdir(parents=True)
        write_text(folder / "parts.info.json", json.dumps(info))
    parts = []
    for scene in scenes:
        part = folder / f"{scene['name']}.jsonl"
        if not part.is_file():
            lines, token = [], scene["first_sample_token"]
            while token:
                sample = tables.sample[token]
                lines.append(json.dumps(describe_sample(tables, sample, scene, num_sweeps=info["num_sweeps"])))
                token = sample["next"]
            write_text(part, "".join(line + "\n" for line in lines))
        parts.append(part)
        on_scene()
    return parts


def _merge(parts: list[Path], path: Path, info: dict) -> None:
    """Join the parts under the final name and remove them."""
    _info_path(path).unlink(missing_ok=True)  # while the index and its description differ there is none
    with written_whole(path) as partial, open(partial, "wb") as file:
        for part in parts:
            with open(part, "rb") as source:
                shutil.copyfileobj(source, file)
    write_text(_info_path(path), json.dumps(info))
    shutil.rmtree(parts[0].parent)


def _info_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.info.json")


def _read_info(path: Path) -> dict | None:
    """Return what the index (or the parts) at ``path`` were made from, None where that is not told."""
    try:
        return json.loads(_info_path(path).read_bytes())
    except (OSError, ValueError):
        return None


def _covers(found: dict | None, wanted: dict) -> bool:
    """Return whether an index with the description ``found`` has all that is wanted; more sweeps do no harm."""
    enough = found is not None and found.get("num_sweeps", -1) >= wanted["num_sweeps"]
    return enough and {**found, "num_sweeps": wanted["num_sweeps"]} == wanted


def _fingerprint(folder: Path) -> dict[str, list[int]]:
    """Return size and time of change of every table, by which a later run knows whether they are the same."""
    names = [*TABLE_NAMES, "splits"]
    stats = {name: (folder / f"{name}.json").stat() for name in names if (folder / f"{name}.json").is_file()}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def check_index_is_current(root: str | Path, version: str, split: str, *, num_sweeps: int = 0) -> None:
    """Raise ValueError where the index of a split is not what a reader of today, or this one, needs.

    It must be of this format, list ``num_sweeps`` older sweeps and be made from tables of the size that they have now.
    Times of change are not compared, since copying a data set changes them; tables that are not there are left out.
    """
    path = index_path(root, version, split)
    info = _read_info(path) or {}
    problem, options = None, ""
    if info.get("format") != FORMAT:
        problem = f"is of format {info.get('format')} and must be of format {FORMAT}"
    elif info["num_sweeps"] < num_sweeps:
        problem = f"lists {info['num_sweeps']} older sweeps and must list {num_sweeps}"
        options = f" --num-sweeps {num_sweeps}"
    else:
        for name, (size, _) in info["tables"].items():
            table = Path(root) / version / f"{name}.json"
            if table.is_file() and table.stat().st_size != size:
                problem = f"was made from another {table.name}"
    if problem:
        raise ValueError(
            f"nuScenes: {path} {problem}; run "
            f"python tools/prepare_data.py nuscenes --root {root} --version {version}{options}"
        )
