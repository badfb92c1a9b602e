# SPDX-License-Identifier: Apache-2.0
"""What was read last, kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Reads by name, and keeps what it read for the last few names that were asked for.

    A data set that has one can be handed to processes that are not forked, as with `functools.lru_cache` it could not.

    Args:
        read: gives the value of a name; what it raises is kept for none.
        most: names, >= 1.
    """

    def __init__(self, read: Callable[[str], Value], *, most: int) -> None:
        self._read, self._most = read, most
        self._kept: OrderedDict[str, Value] = OrderedDict()

    def __call__(self, name: str) -> Value:
        if name not in self._kept:
            self._kept[name] = self._read(name)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return self._kept[name]

    def clear(self) -> None:
        """Keep nothing of what was read until now."""
        self._kept.clear()
