# SPDX-License-Identifier: Apache-2.0
"""Folders of simulated data: complete whenever they exist, and kept where they are what is asked for."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pcperc.simulated import SIMULATION_STAMP


def write_folder(
    out: str | Path, stamp: dict, write: Callable[[Path], None], *, part: str, overwrite: bool = False
) -> bool:
    """Write a simulated data set, or keep the one that is there if it was made with the same settings.

    The data set is built beside ``out`` and renamed at the end, so ``out`` is complete whenever it exists.

    Args:
        out: folder of the data set. stamp: what ``SIMULATION_STAMP`` holds; it fixes every byte of the result.
        write: fills the folder that it is given. part: a folder that every complete data set has.
        overwrite: replace a simulated data set of other settings. A folder that the simulator did not write is never
            touched.
    Returns:
        True where it was written, False where it was there.
    Raises:
        FileExistsError: ``out`` holds something else. OSError: the disk is full or not writable.
    """
    out = Path(out)
    if _reusable(out, stamp, part, overwrite):
        return False
    _sweep_up(out)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        write(partial)
        (partial / SIMULATION_STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
        if _reusable(out, stamp, part, overwrite):  # another process finished the same set meanwhile
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


def _reusable(out: Path, stamp: dict, part: str, overwrite: bool) -> bool:
    """Whether ``out`` already holds what is asked for; raises where it holds something else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / SIMULATION_STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise FileExistsError(
            f"simulate: {out} exists and was not written by the simulator; choose another --out"
        ) from None
    if found == stamp and (out / part).is_dir():
        return True
    if not overwrite:
        raise FileExistsError(
            f"simulate: {out} was made with other settings {found}; pass --overwrite or another --out"
        )
    return False
