# SPDX-License-Identifier: Apache-2.0
"""numba's compiler with a cache that survives between runs and never serves machine code of an older source."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

logger = logging.getLogger(__name__)


@functools.lru_cache(maxsize=8)
def _cache_folder(source_folder: str) -> Path | None:
    """Return a writable folder named after the sources of ``source_folder``, or None where the user has none.

    numba looks only at the file of the compiled function, so a change of a callee in another file would go unnoticed:
    the hash covers every file of the folder. A folder of the user, never a shared one: numba's index is a pickle.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(source_folder).glob("*.py")):
        digest.update(path.read_bytes())
    base = numba.config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "pcperc" / f"numba-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = None
    if folder is None or not os.access(folder, os.W_OK):
        logger.info("no writable cache folder under %s: the simulator is compiled anew in every run", base)
        return None
    return folder


def compile_once(caller: str, run: Callable[[], Any], *, begins: Callable[[], None] | None = None) -> None:
    """Call ``run``, which compiles what it calls, unless the cache has it already; where there is no cache, never.

    Args:
        caller: module that runs the compiled functions: each runs some of them. begins: called before ``run``.
    """
    folder = _cache_folder(str(Path(__file__).parent / "driving"))
    if folder is None:
        return
    mark = folder / f"{caller}-numba-{numba.__version__}.compiled"
    if mark.exists():
        return
    if begins is not None:
        begins()
    run()
    mark.touch()


def cached_njit(function):
    """Compile ``function`` with ``numba.njit``; the machine code is kept in the user's cache folder where there is one.

    Floating point stays strict (no fastmath), so that a seed gives the same bits on every run.
    """
    folder = _cache_folder(str(Path(sys.modules[function.__module__].__file__).parent))
    if folder is None:
        return numba.njit(function)
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)  # read once, while the decorator runs
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # "cannot cache function": no locator could use the folder
        return numba.njit(function)
    finally:
        numba.config.CACHE_DIR = before
