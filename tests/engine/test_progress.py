# SPDX-License-Identifier: Apache-2.0
"""The progress display: lines elsewhere than on a terminal, a bar on one, and the time left."""

import io
import re

import pytest

from pcperc.engine import progress
from pcperc.engine.messages import one_line, run_tool
from pcperc.engine.progress import ProgressDisplay, shown_from_first_report


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_with_the_time_left(clock):
    stream = io.StringIO()
    display = ProgressDisplay("training", 100, done=20, stream=stream, seconds_between_lines=10)
    for done in range(21, 41):
        clock[0] += 1
        display.update(done, "loss 3")
    display.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "training 30/100 (30 %), 0:00:10 gone, 0:01:10 left, loss 3"
    assert lines[1:] == ["training 40/100 (40 %), 0:00:20 gone, 0:01:00 left, loss 3"], "no line comes twice"
    assert "0:00:00 left" not in stream.getvalue(), "units done before do not count for the speed"


def test_a_display_that_begins_with_its_first_report(clock, capsys):
    with shown_from_first_report("simulating scenes") as report:
        clock[0] += 60  # compiling
        for done in range(3):
            report(done, 8)
            clock[0] += 10
    assert capsys.readouterr().out == "simulating scenes 2/8 (25 %), 0:00:20 gone, 0:01:00 left\n"
    with shown_from_first_report("nothing to do"):
        pass
    assert capsys.readouterr().out == ""


def test_nothing_where_it_is_disabled():
    stream = io.StringIO()
    with ProgressDisplay("x", 2, enabled=False, stream=stream) as display:
        display.advance()
    assert stream.getvalue() == ""


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch, *, columns: int, text: str) -> str:
    """Return what a terminal of that width has received, without escape sequences."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with ProgressDisplay("training", 3, stream=stream) as display:
        display.advance("before")
        display.pause()
        display.resume()
        display.advance(text)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_a_bar_on_a_terminal(monkeypatch):
    shown = on_a_terminal(monkeypatch, columns=120, text="loss 2")
    assert re.search(r"training ━{10}─{5} 2/3, 67 %, 0:00:00 gone, 0:00:00 left, loss 2", shown)
    assert max(map(len, re.split("[\r\n]", on_a_terminal(monkeypatch, columns=80, text="x" * 200)))) == 80


LABEL, TEXT = "stage 1/2 lidar_only_demo", "loss 12.34, epoch 1/2, lr 0.00019"


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (140, f"{LABEL} ━━━━━──────────── 30/100, 30 %, 0:00:10 gone, 0:00:23 left, {TEXT}"),
        (100, f"{LABEL} ━━━━──────── 30/100, 30 %, 0:00:10 gone, 0:00:23 left, loss 12.34, epoch …"),
        (80, f"{LABEL} ━━━─────── 30/100, 30 %, 0:00:10 gone, 0:00:23 left"),
        (72, f"{LABEL} ━━━────── 30 %, 0:00:10 gone, 0:00:23 left"),
        (60, f"{LABEL} 30 %, 0:00:10 gone, 0:00:23 left"),
        (50, "stage 1/2 lidar_… 30 %, 0:00:10 gone, 0:00:23 left"),
        (40, "stage … 30 %, 0:00:10 gone, 0:00:23 left"),
    ],
)
def test_a_narrow_terminal_still_shows_percent_and_times(clock, width, line):
    display = ProgressDisplay(LABEL, 100, stream=io.StringIO())
    clock[0] += 10
    display.update(30, TEXT)
    assert display.line(width) == line and len(line) <= width


def test_a_terminal_without_unicode(monkeypatch):
    monkeypatch.setattr(Terminal, "encoding", "ascii")
    assert "training ##########----- 2/3" in on_a_terminal(monkeypatch, columns=120, text="x").encode("ascii").decode()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("op: x must be y, got z"), "op: x must be y, got z"),
        (KeyError("no such key"), "KeyError: no such key"),
        (RuntimeError(), "RuntimeError"),
        (
            ValueError(
                "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
                '  File "x.py", line 1\nValueError: point file a.bin must hold rows\n'
            ),
            "point file a.bin must hold rows",
        ),
    ],
)
def test_errors_in_one_line(error, line, capsys, monkeypatch):
    monkeypatch.delenv("PCPERC_TRACEBACK", raising=False)
    assert one_line(error) == line

    def fail():
        raise error

    assert run_tool(fail) == 1
    assert capsys.readouterr().err == f"error: {line}\n"
    monkeypatch.setenv("PCPERC_TRACEBACK", "1")
    with pytest.raises(type(error)):
        run_tool(fail)
