# SPDX-License-Identifier: Apache-2.0
"""Files that are under their name whole or not at all, and folders that one process writes at a time."""

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

import numpy as np

logger = logging.getLogger(__name__)

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
SECONDS_BETWEEN_LOOKS = 0.2  # at a lock that is waited for

_held: set[tuple[int, Path]] = set()  # processes and the locks that they hold
_looking = threading.Lock()


@contextlib.contextmanager
def naming(path: str | Path, *, advice: str = "") -> Iterator[None]:
    """Let an OSError of a failed write name ``path``: the system's own does not say which file found no room.

    Args:
        path: what is being written.
        advice: added to the message.
    Raises:
        OSError: of the same ``errno``; its text is one line.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # has its own words already
            raise
        reason = "the disk is full" if error.errno in DISK_FULL else error.strerror or str(error)
        named = OSError(f"{path}: cannot be written, {reason}{advice}")
        named.errno = error.errno
        raise named from error


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a path to write to; rename it to ``path`` once its bytes are on disk, remove it where anything fails.

    Folders that are missing are made. Threads and processes that write the same name, on other machines too, do not
    meet in one partial file.

    Raises:
        OSError: the disk is full or not writable; ``path``, which the message names, is then what it was before.
    """
    path = Path(path)
    # Not the process number alone: threads share it, and containers often have the same one.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):  # it must not hide why the write failed
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def only_writer(folder: str | Path, job: str, *, wait: bool = False) -> Iterator[None]:
    """Be the only process that does ``job`` in ``folder``, or fail at once.

    The lock, on the empty file ``.<job>.lock``, is the system's: it goes with its process, however that ends, and
    forked processes have no part in it. Threads of one process exclude each other too. Where the file system has no
    locks, a warning in the log says so.

    Args:
        folder: made where it is missing.
        job: a word for the message, such as "testing".
        wait: until the other process is done, after a line in the log, instead of failing.
    Raises:
        OSError: another process does this there, and ``wait`` is False; the folder cannot be written.
    """
    path = Path(folder) / f".{job}.lock"
    with naming(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(path)
        if file is None and wait:
            logger.warning("%s: waiting for another process that is %s there", folder, job)
            while (file := _locked(path)) is None:
                time.sleep(SECONDS_BETWEEN_LOOKS)
    if file is None:
        raise OSError(f"{folder}: another process is {job} there; wait for it or choose another folder")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()
        _held.discard(_key(path))


def _key(path: Path) -> tuple[int, Path]:
    return os.getpid(), path.resolve()  # a forked process holds nothing


def _locked(path: Path) -> TextIO | None:
    """Open the file ``path`` and lock it, where there are locks; None where another one has locked it."""
    with _looking:
        if _key(path) in _held:  # the system's locks are between processes
            return None
        file = _locked_between_processes(path)
        if file is not None:
            _held.add(_key(path))
        return file


def _locked_between_processes(path: Path) -> TextIO | None:
    while True:
        file = open(path, "a")  # noqa: SIM115  (open as long as it is locked)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        except FileNotFoundError:
            pass  # the last one to hold it removed it after it was opened here: try the next
        except OSError as error:
            if error.errno in WITHOUT_LOCKS:
                logger.warning("%s: its file system has no locks; let no other process do this there", path)
                return file
            file.close()
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return None
            raise
        file.close()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole, as UTF-8."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays whole, as a compressed npz file.

    Raises:
        ValueError: one holds objects. They would be pickled; NumPy 1.26 takes an ``allow_pickle`` for one array more.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(f"{path}: cannot be written, {name} must hold numbers or text, got {array.dtype}")
    with written_whole(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)


def set_usual_mode(path: Path) -> None:
    """Give a new file the permissions that open() would have: safetensors makes files that nobody else can read."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)
