# SPDX-License-Identifier: Apache-2.0
"""What the C library does with the memory of tensors that are gone."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_NEVER, _NONE = -1, 0


def keep_freed_memory() -> bool:
    """Let this process, and those it forks, use freed memory again instead of giving it back to the system.

    glibc returns a large tensor's memory as soon as it is freed, and the system clears every page before it hands it
    out again: in a training step on a CPU, which allocates each layer's output and gradient anew, that takes a quarter
    of the time. From this call on the process stays as large as it was at its largest, with steps of changing size a
    fifth larger than it would have been; :func:`return_freed_memory` shrinks it.

    Returns:
        Whether it was set: False where the C library is not glibc.
    """
    if not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_TRIM_THRESHOLD, _NEVER) and mallopt(_M_MMAP_MAX, _NONE))


def return_freed_memory() -> None:
    """Give memory that was freed and kept back to the system, where the C library is glibc."""
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
