# SPDX-License-Identifier: Apache-2.0
"""One progress display for every long step: a live bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressDisplay:
    """Shows how far a step is and how long it will still take.

    Args:
        label: what is being done, in two or three words.
        total: number of units of work.
        done: units that were done before (a resumed run); they do not count for the speed.
        enabled: False prints nothing (all processes but the first).
        stream: where to; a terminal gets a live bar, anything else one line every ``seconds_between_lines``.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        done: int = 0,
        enabled: bool = True,
        stream: TextIO | None = None,
        seconds_between_lines: float = 15.0,
    ) -> None:
        self.label, self.total, self.done = label, total, done
        self.enabled = enabled
        self.seconds_between_lines = seconds_between_lines
        self._first = done
        self._start = time.monotonic()
        self._last_line = self._start
        self._text = ""
        self._printed: int | None = None
        self._console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        if enabled and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(elapsed_when_finished=False),
                TextColumn("{task.fields[text]}"),
                console=self._console,
            )
            self._task = self._bar.add_task(label, total=total, completed=done, text="")
            self._bar.start()

    def update(self, done: int, text: str = "") -> None:
        """Say that ``done`` units are complete; ``text`` is shown behind the times."""
        self.done, self._text = done, text
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=text)
        elif self.enabled and time.monotonic() - self._last_line >= self.seconds_between_lines:
            self._print_line()

    def advance(self, text: str = "") -> None:
        """Say that one more unit is complete."""
        self.update(self.done + 1, text)

    def pause(self) -> None:
        """Take a live bar off the screen so that another display can be shown."""
        if self._bar is not None:
            self._bar.stop()

    def resume(self) -> None:
        """Show a paused bar again."""
        if self._bar is not None:
            self._bar.start()

    def close(self) -> None:
        """End the display; elsewhere than on a terminal with a last line."""
        if self._bar is not None:
            self._bar.stop()
        elif self.enabled and self._printed != self.done:
            self._print_line()
        self.enabled = False

    def seconds_left(self) -> float | None:
        """Estimate from the mean speed since the display was made; None before the first unit."""
        worked = self.done - self._first
        if worked <= 0:
            return None
        return (time.monotonic() - self._start) / worked * (self.total - self.done)

    def _print_line(self) -> None:
        self._last_line, self._printed = time.monotonic(), self.done
        left = self.seconds_left()
        left_text = "?" if left is None else _clock(left)
        share = 100.0 * self.done / self.total if self.total else 100.0
        line = f"{self.label} {self.done}/{self.total} ({share:.0f} %), {_clock(self._last_line - self._start)} gone, "
        self._console.print(f"{line}{left_text} left{', ' + self._text if self._text else ''}", markup=False)

    def __enter__(self) -> "ProgressDisplay":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
