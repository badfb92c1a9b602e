# SPDX-License-Identifier: Apache-2.0
"""The simulated calorimeter set as a whole: splits, classes, repeatability, and never half-written."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pcperc.simulation.calorimeter import Settings, generate
from pcperc.simulation.calorimeter.generate import SPLITS, make_event, splits_of
from pcperc.simulation.data_set import simulate

TINY = Settings(events=5, size="tiny", seed=3)
REPOSITORY = Path(__file__).parents[2]


def fingerprint(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    out, calls = tmp_path_factory.mktemp("simulated") / "calorimeter", []
    assert simulate(out, TINY, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 5) for done in range(6)]
    return out


def test_every_class_and_the_documented_arrays_are_in_every_split(root):
    for split in SPLITS:
        classes = set()
        for path in (root / split).glob("event_*.npz"):
            with np.load(path, allow_pickle=False) as event:
                arrays = {name: event[name] for name in event.files}
            classes |= set(arrays["class"].tolist())
            page = (REPOSITORY / "docs/simulation.md").read_text()
            assert all(f"`{name}`" in page for name in arrays), sorted(arrays)
            count = len(arrays["hits"])
            assert arrays["hits"].shape == (count, 9) and arrays["hits"].dtype == np.float32
            assert all(len(arrays[key]) == count for key in ("layer", "class", "instance", "fractions", "contributors"))
            assert arrays["layer"].min() >= 1 and arrays["layer"].max() <= 52
            owned = arrays["instance"] >= 0
            assert ((arrays["class"] > 0) == owned).all()
            assert (arrays["contributors"][owned, 0] == arrays["instance"][owned]).all()
        assert classes == {0, 1, 2}, split


def test_tool_gives_the_same_bytes_and_keeps_what_is_there(root, tmp_path):
    command = [sys.executable, "tools/simulate.py", "calorimeter", "--out", str(tmp_path / "again"), "--events", "5"]
    command += ["--size", "tiny", "--seed", "3", "--workers", "2"]
    first, second = (subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "5 simulated events" in first.stdout and "simulating events 5/5" in first.stdout
    assert "kept" in second.stdout and "simulating" not in second.stdout
    assert fingerprint(tmp_path / "again") == fingerprint(root)


def test_splits_are_drawn_by_the_seed_and_hold_out_a_fifth():
    splits = splits_of(Settings(events=100, size="tiny", seed=0))
    assert [splits.count(name) for name in SPLITS] == [80, 10, 10]
    assert splits == splits_of(Settings(events=100, size="full", seed=0))
    assert splits != splits_of(Settings(events=100, size="tiny", seed=1))
    assert sorted(splits_of(Settings(events=3, size="tiny", seed=0))) == sorted(SPLITS)


def test_another_seed_is_other_events():
    first, again, other = (make_event(Settings(5, "tiny", seed), 0)["particles"] for seed in (3, 3, 4))
    assert (first == again).all() and (first[0] != other[0]).all()


def test_a_set_of_other_settings_is_not_replaced_unasked(root):
    before = fingerprint(root)
    with pytest.raises(FileExistsError, match="other settings.*--overwrite"):
        simulate(root, Settings(events=5, size="tiny", seed=4))
    assert fingerprint(root) == before


def test_a_stopped_run_leaves_nothing_behind(tmp_path, monkeypatch):
    def stop(settings, index):
        if index == 2:
            raise KeyboardInterrupt
        return {"hits": np.zeros((0, 9), np.float32)}

    monkeypatch.setattr(generate, "make_event", stop)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "calorimeter", TINY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings, message",
    [((2, "small", 0), "events must be"), ((9, "huge", 0), "size must be one of"), ((9, "tiny", -1), "seed must be")],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(*settings)
