# SPDX-License-Identifier: Apache-2.0
"""What a tool tells its user: short lines from the first process, and one line where something is wrong."""

import os
import sys
from collections.abc import Callable

from rich.console import Console

from pcperc.engine.distributed import is_main


def say(text: str) -> None:
    """Print a line to the user, from the first process only."""
    if is_main():
        Console(highlight=False, soft_wrap=True).print(text, markup=False)


def say_pictures(saved: int, folder: object, *, shown: int, of: int, unit: str) -> None:
    """Say how many pictures were saved into ``folder``, of how many samples, and of how many there are."""
    say(f"{saved} pictures of {shown if shown == of else f'{shown} of {of}'} {unit} in {folder}")


# What wrong input, files or machines raise (MMEngine asserts its arguments); anything else shows where it was raised.
EXPECTED_ERRORS = (
    *(ArithmeticError, AssertionError, ImportError, LookupError),
    *(OSError, RuntimeError, TypeError, ValueError),
)


def run_tool(main: Callable[[], None], *, when_stopped: str = "stopped") -> int:
    """Call ``main`` and return an exit status; what is wrong with the input ends in one line on stderr.

    Args:
        when_stopped: what is printed after a Ctrl-C that brings no words of its own.

    Set PCPERC_TRACEBACK=1 to see where an error was raised.
    """
    if os.environ.get("PCPERC_TRACEBACK") == "1":
        main()
        return 0
    try:
        main()
    except KeyboardInterrupt as stop:
        print(str(stop) or when_stopped, file=sys.stderr)
        return 130
    except EXPECTED_ERRORS as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


def add_note(error: Exception, text: str) -> None:
    """Add what `one_line` says behind the message of an exception; Python 3.10 has no ``add_note``, which this is."""
    error.__notes__ = [*notes_of(error), text]


def notes_of(error: Exception) -> list[str]:
    return getattr(error, "__notes__", [])


def one_line(error: Exception) -> str:
    """Return the message of an exception and its notes; of one that crossed from a loader process, the original
    message."""
    return "; ".join([_message(error), *notes_of(error)])


def _message(error: Exception) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if "Original Traceback" in text:
        return lines[-1].partition(": ")[2] or lines[-1]
    unexplained = type(error) in (RuntimeError, TypeError, KeyError, IndexError, ImportError, AssertionError)
    return f"{type(error).__name__}: {lines[0]}" if unexplained else lines[0]
