# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are written whole or not at all and read without executing anything.

A checkpoint holds tensors, numbers, strings and containers of these, nothing else. A folder of checkpoints carries
two small markers: ``last_checkpoint`` names the newest one of the current run (for ``--resume``), ``finished.json``
the last one of the newest run that came to its end (for testing; it may be in a folder below, see
``set_aside_earlier_run``).
"""

import contextlib
import errno
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from pcperc import files

FORMAT = "pcperc checkpoint 1"
LAST_MARKER = "last_checkpoint"
FINISHED_MARKER = "finished.json"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, read or used; the message names the file and what was expected."""


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path to write to; rename it to ``path`` once its bytes are on disk, remove it where anything fails.

    Raises:
        CheckpointError: the disk is full or not writable; ``path`` is then what it was before.
    """
    try:
        with files.written_whole(path) as partial:
            try:
                yield partial
            except RuntimeError as error:
                # torch's zip writer reports a failed write as RuntimeError while the OSError hides in its context.
                cause = _first_os_error(error)
                if cause is None:
                    raise
                raise OSError(cause.errno, cause.strerror) from error
    except OSError as error:
        raise CheckpointError(f"{error}; the file is left as it was before") from error


def _first_os_error(error: BaseException) -> OSError | None:
    seen = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return OSError(errno.ENOSPC, "no space left") if "file write failed" in str(error) else None


def save_checkpoint(checkpoint: dict, path: Path) -> None:
    """Write ``checkpoint`` whole; every value in it must be plain (see ``to_plain``)."""
    plain = to_plain({"format": FORMAT, **checkpoint})
    with written_whole(path) as partial, open(partial, "wb") as file:
        torch.save(plain, file)


def save_weights(state_dict: dict, path: Path, *, meta: dict) -> None:
    """Write the weights alone as .safetensors; ``meta`` (JSON-able) travels in its header, so that it can be tested."""
    tensors = {key: value.detach().contiguous().clone() for key, value in state_dict.items()}
    with written_whole(path) as partial:
        safetensors.torch.save_file(tensors, partial, metadata={"format": FORMAT, "meta": json.dumps(meta)})
        files.set_usual_mode(partial)


def save_text(text: str, path: Path) -> None:
    """Write a small text file whole."""
    with written_whole(path) as partial:
        partial.write_text(text)


def load_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint (.pth) or bare weights (.safetensors) onto the CPU.

    Returns:
        A dict with ``state_dict`` and ``meta``; a .pth also has what ``--resume`` needs.
    Raises:
        CheckpointError: missing, unreadable or truncated file, or a .pth that pcperc did not write.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the protocol of a pickle that is none of ours
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, UnpicklingError) as error:
        reason = _why_unreadable(error)
        raise CheckpointError(f"{path}: not a readable checkpoint of tensors and plain values ({reason})") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected a '{FORMAT}' file, which train.py writes")
    weights, meta = (checkpoint.get(key) for key in ("state_dict", "meta"))
    if not isinstance(meta, dict) or not isinstance(weights, dict) or not all(map(torch.is_tensor, weights.values())):
        raise CheckpointError(f"{path}: must hold 'state_dict', tensors by name, and 'meta', it does not")
    return checkpoint


def _why_unreadable(error: Exception) -> str:
    """Say why torch.load gave up, in a few words; its own are about its reader, or advise to execute the file."""
    text = str(error).partition("\n")[0]
    if isinstance(error, EOFError):
        return "it is empty"
    if isinstance(error, UnpicklingError):
        return "it holds other things"
    if isinstance(error, KeyError):  # torch's reader looks up a byte of what is no pickle
        return "it is no pickle"
    if "enforce fail" in text:
        return "it is an archive of other things"
    # Of some files that are cut off torch seeks before the beginning.
    damaged = "PytorchStreamReader" in text or getattr(error, "errno", None) == errno.EINVAL
    return "it is cut off or damaged" if damaged else text or type(error).__name__


def _load_safetensors(path: Path) -> dict:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state_dict = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        meta = json.loads(metadata.get("meta", "{}"))
        if not isinstance(meta, dict):
            raise ValueError(f"its 'meta' must be an object of JSON, got {type(meta).__name__}")
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    return {"state_dict": state_dict, "meta": meta}


def to_plain(value: Any, *, where: str = "checkpoint") -> Any:
    """Copy nested containers into dict, list and tuple; tensors go to the CPU, numpy values to Python's or torch's.

    Raises:
        TypeError: anything that ``weights_only`` loading would refuse, named by its place.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: to_plain(item, where=f"{where}.{key}") for key, item in dict.items(value)}
    if isinstance(value, list | tuple):
        items = [to_plain(item, where=f"{where}[{i}]") for i, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(value.copy())
    raise TypeError(f"{where}: cannot be stored in a checkpoint, got {type(value).__name__}")


def write_last_marker(folder: Path, path: Path) -> None:
    """Note ``path`` as the newest checkpoint of the current run in ``folder``."""
    save_text(path.name + "\n", folder / LAST_MARKER)


def write_finished_marker(folder: Path, path: Path, **facts: Any) -> None:
    """Note ``path`` as the checkpoint in which a run in ``folder`` ended."""
    save_text(json.dumps({"checkpoint": path.name, **facts}) + "\n", folder / FINISHED_MARKER)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of the current run in ``folder``, or None where it has none yet."""
    return _marked(folder / LAST_MARKER, lambda text: text.strip())


def finished_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint of the newest finished run in ``folder``, or None."""
    return _marked(folder / FINISHED_MARKER, lambda text: json.loads(text)["checkpoint"])


def _marked(marker: Path, name_of: Callable[[str], str]) -> Path | None:
    if not marker.is_file():
        return None
    path = marker.parent / name_of(marker.read_text())
    return path if path.is_file() else None


def set_aside_earlier_run(folder: Path) -> Path | None:
    """Move the checkpoints of an earlier run into a folder of their own, so that a new run in ``folder`` replaces none.

    A run that was finished stays the one to be tested until a newer one is. Moving its files back undoes it all.

    Returns:
        The new folder, ``folder/earlier_<time of the newest>``, or None where there was no checkpoint.
    """
    checkpoints = sorted(path for path in folder.glob("*") if re.fullmatch(r"(iter|epoch)_\d+\.\w+", path.name))
    if not checkpoints:
        (folder / LAST_MARKER).unlink(missing_ok=True)
        return None
    time_of_newest = time.localtime(max(path.stat().st_mtime for path in checkpoints))
    target = folder / time.strftime("earlier_%Y%m%d_%H%M%S", time_of_newest)
    target.mkdir(exist_ok=True)
    if finished_checkpoint(folder) in checkpoints:
        facts = json.loads((folder / FINISHED_MARKER).read_text())
        save_text(json.dumps(facts) + "\n", target / FINISHED_MARKER)
        facts["checkpoint"] = f"{target.name}/{facts['checkpoint']}"
        save_text(json.dumps(facts) + "\n", folder / FINISHED_MARKER)
    if (folder / LAST_MARKER).is_file():
        (folder / LAST_MARKER).rename(target / LAST_MARKER)
    for path in checkpoints:
        path.rename(target / path.name)
    return target


def put_back_earlier_run(folder: Path, moved_to: Path) -> None:
    """Undo `set_aside_earlier_run`, where the new run in ``folder`` has written no checkpoint."""
    for path in moved_to.iterdir():  # markers too: that of a finished run names the file without the folder
        path.rename(folder / path.name)
    moved_to.rmdir()
