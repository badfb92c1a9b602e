# SPDX-License-Identifier: Apache-2.0
"""Runs side by side, in processes of their own that do next to nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pcperc.benchmark.jobs import Job, JobQueue
from tests.engine.helpers import ENVIRONMENT, ROOT

# Writes when it began and ended, on which device; argv: file, seconds, --device, name.
PROGRAM = """
import json, os, sys, time
begun = time.time()
time.sleep(float(sys.argv[2]))
values = [begun, time.time(), sys.argv[-1], os.environ.get("OMP_NUM_THREADS")]
open(sys.argv[1] + ".partial", "w").write(json.dumps(values))
os.rename(sys.argv[1] + ".partial", sys.argv[1])
"""


@pytest.fixture
def make(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def job(name: str, *needs: str, seconds: float = 0.3, more: str = "") -> Job:
        path = tmp_path / name
        words = ["-c", more] if more else [program, path, seconds]
        return Job(name, lambda: words, path.is_file, needs)

    return job


def times(folder: Path, name: str) -> list:
    return json.loads((folder / name).read_text())


def test_side_by_side_on_the_least_loaded_device_and_in_order(make, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    queue = JobQueue(["cuda:0", "cuda:1"], 2, tmp_path / "logs")
    assert queue.run([make("c", "a", "b"), make("a"), make("b"), make("d", "c", seconds=0)]) == {}
    a, b, c, d = (times(tmp_path, name) for name in "abcd")
    assert {a[2], b[2]} == {"cuda:0", "cuda:1"} and max(a[0], b[0]) < min(a[1], b[1])  # at once
    assert c[0] >= max(a[1], b[1]) and d[0] >= c[1]
    assert int(a[3]) == max(len(os.sched_getaffinity(0)) // 2, 1)
    printed = capsys.readouterr().out
    assert "[0/4] a: begins on cuda:0" in printed and "[4/4] d: finished in" in printed
    assert (tmp_path / "logs/a.log").read_text().startswith(f"$ {sys.executable} {tmp_path}/program.py")
    before = times(tmp_path, "a")
    assert JobQueue(["cpu"], 1, tmp_path / "logs").run([make("a"), make("b", "a")]) == {}
    assert times(tmp_path, "a") == before and "[2/2] finished already" in capsys.readouterr().out


def test_one_after_the_other(make, tmp_path):
    JobQueue(["cpu"], 1, tmp_path / "logs").run([make("a", seconds=0.1), make("b", seconds=0.1)])
    assert times(tmp_path, "b")[0] >= times(tmp_path, "a")[1] and times(tmp_path, "a")[2] == "cpu"


def test_what_needs_no_device_takes_no_place_of_those_that_do(make, tmp_path, capsys):
    without = [replace(make(name), on_device=False) for name in "ab"]
    assert JobQueue(["cuda:0"], 1, tmp_path / "logs").run([*without, make("c")]) == {}
    a, b, c = (times(tmp_path, name) for name in "abc")
    assert max(a[0], c[0]) < min(a[1], c[1]) and b[0] >= a[1]  # beside each other, those without one by one
    assert (a[2], c[2]) == ("0.3", "cuda:0")  # the last word of the command
    assert "a: begins, " in capsys.readouterr().out


def test_what_fails_and_what_needs_it(make, tmp_path, capsys):
    def no_command() -> list:
        raise ValueError("nothing to run")

    failed = JobQueue(["cpu"], 2, tmp_path / "logs").run(
        [
            make("bad", more="import sys; print('error: too large'); sys.exit(3)"),
            make("after", "bad"),
            make("after_that", "after"),
            make("empty", more="print('did nothing')"),
            Job("none", no_command, lambda: False),
            make("good", seconds=0),
        ]
    )
    assert failed["bad"] == f"ended with status 3, error: too large ({tmp_path}/logs/bad.log)"
    assert failed["after"] == "needs bad" and failed["after_that"] == "needs after"
    assert failed["empty"].startswith("ended with status 0, did nothing") and failed["none"] == "nothing to run"
    assert (tmp_path / "good").is_file() and "after: FAILED, needs bad" in capsys.readouterr().out


def test_a_result_that_is_refused_fails_its_job_alone(make, tmp_path):
    def other_settings() -> bool:
        if (tmp_path / "odd").is_file():
            raise ValueError("odd: is of other settings")
        return False

    odd = replace(make("odd", seconds=0), is_done=other_settings)
    failed = JobQueue(["cpu"], 1, tmp_path / "logs").run([odd, make("after", "odd"), make("good", seconds=0)])
    assert failed == {"odd": "odd: is of other settings", "after": "needs odd"} and (tmp_path / "good").is_file()


def test_what_another_job_has_done_is_not_done_again(make, tmp_path, capsys):
    """As of two limits that choose one subnet."""
    same = replace(make("one", seconds=0), name="same", needs=("one",))
    assert JobQueue(["cpu"], 2, tmp_path / "logs").run([make("one", seconds=0), same]) == {}
    assert "[2/2] same: finished already" in capsys.readouterr().out and not (tmp_path / "logs/same.log").exists()


QUEUE = """
import signal, sys
from pathlib import Path
from pcperc.benchmark.jobs import Job, JobQueue
signal.signal(signal.SIGTERM, signal.default_int_handler)
folder = Path(sys.argv[1])
command = ["-c", "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)", folder / "pid"]
JobQueue(["cpu"], 1, folder / "logs").run([Job("long", lambda: command, lambda: False)])
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_leaves_no_process(tmp_path, how):
    if how == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("of the other systems none ends the children of what is killed")
    with subprocess.Popen([sys.executable, "-c", QUEUE, tmp_path], cwd=ROOT, env=ENVIRONMENT, stderr=-3) as queue:
        path, end = tmp_path / "pid", time.monotonic() + 60
        while not (path.is_file() and path.read_text()) and queue.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        queue.send_signal(how)
        assert queue.wait(20) != 0
    end = time.monotonic() + 20
    while is_running(int(path.read_text())) and how == signal.SIGKILL and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_running(int(path.read_text()))


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that has ended and that nobody asks for is none."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        return not status.is_file() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
