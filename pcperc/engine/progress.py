# SPDX-License-Identifier: Apache-2.0
"""One progress display for every long step: a live bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

_ASCII = str.maketrans("━─…", "#-~")


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
        self._live: Live | None = None
        if enabled and self._console.is_terminal:
            self._live = Live(self, console=self._console)
            self._live.start()

    def update(self, done: int, text: str = "") -> None:
        """Say that ``done`` units are complete; ``text`` is shown behind the times."""
        self.done, self._text = done, text
        if self._live is None and self.enabled and time.monotonic() - self._last_line >= self.seconds_between_lines:
            self._print_line()

    def advance(self, text: str = "") -> None:
        """Say that one more unit is complete."""
        self.update(self.done + 1, text)

    def pause(self) -> None:
        """Take a live bar off the screen so that another display can be shown."""
        if self._live is not None:
            self._live.stop()

    def resume(self) -> None:
        """Show a paused bar again."""
        if self._live is not None:
            self._live.start()

    def close(self) -> None:
        """End the display; elsewhere than on a terminal with a last line."""
        if self._live is not None:
            self._live.stop()
        elif self.enabled and self._printed != self.done:
            self._print_line()
        self.enabled = False

    def seconds_left(self) -> float | None:
        """Estimate from the mean speed since the display was made; None before the first unit."""
        worked = self.done - self._first
        if worked <= 0:
            return None
        return (time.monotonic() - self._start) / worked * (self.total - self.done)

    def line(self, width: int) -> str:
        """Return what a terminal of ``width`` columns shows; from 40 columns on percent and both times stand in it.

        Where there is no room, what is told behind the times goes first, then the count, the bar and the label's end.
        """
        cells = width // 8
        filled = round(cells * self._share())
        bar, count = "━" * filled + "─" * (cells - filled), f"{self.done}/{self.total}"
        times = f"{100 * self._share():.0f} %, {self._times()}"
        for middle in (f"{bar} {count}, ", f"{bar} ", ""):
            head = f"{self.label} {middle}{times}"
            room = width - len(head) - 2
            if room >= -2:
                return f"{head}, {_cut(self._text, room)}" if self._text and room >= 8 else head
        return f"{_cut(self.label, width - len(times) - 1)} {times}"

    def _share(self) -> float:
        return self.done / self.total if self.total else 1.0

    def _times(self) -> str:
        left = self.seconds_left()
        return f"{_clock(time.monotonic() - self._start)} gone, {'?' if left is None else _clock(left)} left"

    def _print_line(self) -> None:
        self._last_line, self._printed = time.monotonic(), self.done
        line = f"{self.label} {self.done}/{self.total} ({100 * self._share():.0f} %), {self._times()}"
        self._console.print(f"{line}{', ' + self._text if self._text else ''}", markup=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = self.line(options.max_width)
        text = Text(line.translate(_ASCII) if options.ascii_only else line, no_wrap=True, overflow="crop")
        text.highlight_regex("[━#]+", "bar.complete")
        text.highlight_regex("─+", "bar.back")
        yield text

    def __enter__(self) -> "ProgressDisplay":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@contextmanager
def shown_from_first_report(label: str) -> Iterator[Callable[[int, int], None]]:
    """Give ``report(done, total)``: its first call begins a display, so that what comes before takes no part in it."""
    displays: list[ProgressDisplay] = []

    def report(done: int, total: int) -> None:
        if not displays:
            displays.append(ProgressDisplay(label, total))
        displays[0].update(done)

    try:
        yield report
    finally:
        for display in displays:
            display.close()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
