# SPDX-License-Identifier: Apache-2.0
"""The file of chosen kernels that tools/benchmark.py tune writes and extends."""

import os
from pathlib import Path

import pytest

from pcperc.benchmark.selection import Choice, Selection, Sizes, load_or_start, parse_selection, save_selection
from pcperc.benchmark.tune import output_path

ROOT = Path(__file__).parent.parent
FORWARD = Sizes("forward", "float16", 2000, 64, 128, 27)
WEIGHT_GRAD = Sizes("weight_grad", "tf32", 2000, 32, 32, 8)


@pytest.fixture(autouse=True)
def no_folder_of_the_user(monkeypatch):
    monkeypatch.delenv("PCPERC_SELECTION", raising=False)


def test_a_file_is_read_as_it_was_written(tmp_path):
    choices = {WEIGHT_GRAD: Choice(1, 0, 0.5), FORWARD: Choice(102, 4, 0.0123)}
    selection = Selection("sm_90_1", ["first run", "second run"], choices)
    path = tmp_path / "new" / "table.txt"
    save_selection(selection, path)
    text = path.read_text()
    assert load_or_start("sm_90_1", path) == selection
    assert text.splitlines()[4].split() == ["forward", *"float16 2000 64 128 27 102 4 0.0123".split()]
    save_selection(load_or_start("sm_90_1", path), path)
    assert path.read_text() == text and os.listdir(path.parent) == ["table.txt"]


def test_a_run_extends_what_is_in_use(tmp_path, monkeypatch):
    gpu, new = "sm_90_1", tmp_path / "new.txt"
    assert load_or_start(gpu, new) == Selection(gpu)
    used = Selection(gpu, [], {FORWARD: Choice(102, 4, 0.1)})
    save_selection(used, tmp_path / "sm_90_1.txt")
    monkeypatch.setenv("PCPERC_SELECTION", str(tmp_path))
    assert load_or_start(gpu, new) == used
    save_selection(Selection(gpu, [], {WEIGHT_GRAD: Choice(1, 0, 0.1)}), new)
    assert list(load_or_start(gpu, new).choices) == [WEIGHT_GRAD]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["pcperc selection 1: Other"], 'table:1: must be "pcperc selection 1: GPU", got "pcperc selection 1: Other"'),
        ([], 'table:1: must be "pcperc selection 1: GPU", got ""'),
        (["pcperc selection 1: GPU", "pass rows"], "table:2: columns must be pass dtype rows .*, got pass rows"),
        (["pcperc selection 1: GPU", "# note", tuning_line := "pass dtype rows in out taps kernel blocks ms", "a b 1"],
         "table:4: must be pass dtype rows .*, got a b 1"),
        (["pcperc selection 1: GPU", tuning_line, "forward tf32 1 2 3 4 5 x 7"], "table:3: must be .*, got forward"),
        (["pcperc selection 1: GPU", tuning_line, "forward tf32 1 2 3 4 5 6 7", "forward tf32 1 2 3 4 6 6 7"],
         "table:4: these sizes have a line above, got forward"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_said(lines, message):
    with pytest.raises(ValueError, match=message):
        parse_selection(lines, Path("table"), "GPU")


def test_the_file_is_that_of_the_gpu_in_the_users_folder(tmp_path, monkeypatch):
    assert output_path(None, "sm_90_1") == ROOT / "pcperc/ops/selection/sm_90_1.txt"
    monkeypatch.setenv("PCPERC_SELECTION", str(tmp_path / "mine"))
    assert output_path(None, "sm_90_1") == tmp_path / "mine" / "sm_90_1.txt"
    assert output_path(tmp_path / "a.txt", "sm_90_1") == tmp_path / "a.txt"
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError, match="file cannot be written: set PCPERC_SELECTION to a folder of yours"):
        output_path(tmp_path / "file" / "a.txt", "sm_90_1")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="mine cannot be written: set PCPERC_SELECTION to a folder of yours"):
        output_path(None, "sm_90_1")
