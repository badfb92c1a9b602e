# SPDX-License-Identifier: Apache-2.0
"""What every tool says of itself, and what `make demo` runs and says; without running it."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WITH_ARGUMENTS = sorted(p.stem for p in (ROOT / "tools").glob("*.py") if "ArgumentParser" in p.read_text())


def tool(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", WITH_ARGUMENTS)
def test_help_and_the_page(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--help"])
    monkeypatch.setattr("sys.path", list(sys.path))
    with pytest.raises(SystemExit) as stop:
        tool(name).main()
    assert stop.value.code in (0, None) and f"usage: {name}.py" in capsys.readouterr().out
    assert f"{name}.py" in (ROOT / "tools/README.md").read_text()


@pytest.mark.parametrize(
    "options, message",
    [
        ("a.bin --split sim_val", "--split: needs --ray"),
        ("a.bin --workers 2", "--workers: needs --ray"),
        ("a.bin --frames-per-part 4", "--frames-per-part: needs --ray"),
        ("--data-root DIR", "--data-root: needs --ray"),
        ("a.bin --ray --data-root DIR", "--data-root: is of a data set, and FILEs are given"),
    ],
)
def test_options_of_infer_that_would_be_ignored(options, message, monkeypatch):
    monkeypatch.setattr("sys.argv", ["infer.py", "config.py", "model.pth", *options.split()])
    monkeypatch.setattr("sys.path", list(sys.path))
    with pytest.raises(ValueError, match=f"^{message}$"):
        tool("infer").main()


@pytest.mark.parametrize("more, folder", [("", "work/epoch_1"), (" --work-dir other", "other")])
def test_a_checkpoint_alone_is_tested_by_its_own_config(more, folder, monkeypatch):
    given = []
    monkeypatch.setattr("pcperc.engine.testing.test", given.append)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setattr("sys.argv", ["test.py", *f"work/epoch_1/model.safetensors{more}".split()])
    tool("test").main()
    assert given[0].config is None and given[0].checkpoint == Path("work/epoch_1/model.safetensors")
    assert given[0].work_dir == Path(folder)
    monkeypatch.setattr("sys.argv", ["test.py", "a.pth", "b.pth"])
    with pytest.raises(ValueError, match="CONFIG must be a .py file, got a.pth"):
        tool("test").main()


@pytest.fixture
def demo(tmp_path, monkeypatch):
    module = tool("demo")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def test_the_last_step_is_the_literal_command(demo):
    assert demo.STEPS[-1][1] == "tools/test.py --eval nuscenes"
    assert all((ROOT / command.split()[0]).is_file() for _, command in demo.STEPS)


def test_scores_before_and_after_stand_side_by_side(demo, tmp_path):
    for folder, score in ((demo.BEFORE, 0.8), (demo.WORK_DIR, 0.7)):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        summary = {"mean_dist_aps": {"car": score}, "mean_ap": score - 0.1, "nd_score": score - 0.2}
        (tmp_path / folder / "metrics_summary.json").write_text(json.dumps(summary))
    lines = demo.comparison().splitlines()
    assert [line.split()[-3:] for line in lines[1:3]] == [["0.800", "0.700", "0.600"], ["0.700", "0.600", "0.500"]]


def test_the_first_failing_step_ends_it(demo, monkeypatch, capfd):
    monkeypatch.setattr(demo, "STEPS", (("Fails", "-c 'import sys; sys.exit(3)'"), ("Never runs", "-c pass")))
    assert demo.main() == 3
    out, err = capfd.readouterr()
    assert "[1/2] Fails" in out and "Never runs" not in out and "step 1 ended with status 3" in err


def test_the_checkpoint_that_is_drawn_is_the_newest_finished(demo, tmp_path):
    assert demo.finished_checkpoint() == ""
    (tmp_path / demo.WORK_DIR).mkdir(parents=True)
    (tmp_path / demo.WORK_DIR / "finished.json").write_text('{"checkpoint": "epoch_2.pth"}')
    assert demo.finished_checkpoint() == "work_dirs/bevfusion/epoch_2.pth"
