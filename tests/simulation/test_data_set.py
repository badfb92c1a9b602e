# SPDX-License-Identifier: Apache-2.0
"""What all simulated data sets share: their parts, a stamp, a README, and settings that are checked."""

import importlib
import json
from dataclasses import dataclass

import pytest

from pcperc.simulated import SIMULATION_STAMP
from pcperc.simulation import jit
from pcperc.simulation.data_set import SimulatedSet, simulate
from tools import simulate as tool
from tools.train import SIMULATORS

SETTINGS = {
    name: importlib.import_module(f"pcperc.simulation.{module}").Settings for name, module in SIMULATORS.items()
}


@dataclass(frozen=True)
class Stones(SimulatedSet):
    """A file for each stone, and one for all of them."""

    kind = "stones"
    parts = "stones"
    generator = 4
    folder = "quarry"
    sizes = ("small", "large")
    readme = "Simulated stones."
    least, least_is = 2, "one to throw"

    stones: int
    size: str
    seed: int

    def write_part(self, root, index):
        (root / "quarry").mkdir(exist_ok=True)
        (root / "quarry" / f"{index}.txt").write_text(f"{self.seed} {index}")
        return 10 * index

    def finish(self, root, results):
        (root / "weights.txt").write_text(str(sorted(results.items())))


@pytest.mark.parametrize("workers", [1, 2])
def test_parts_are_written_then_what_belongs_to_all(tmp_path, workers):
    calls, out = [], tmp_path / "stones"
    assert simulate(out, Stones(3, "small", 7), workers=workers, progress=lambda *call: calls.append(call))
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [(out / "quarry" / f"{k}.txt").read_text() for k in range(3)] == ["7 0", "7 1", "7 2"]
    assert (out / "weights.txt").read_text() == "[(0, 0), (1, 10), (2, 20)]"
    assert (out / "README.md").read_text() == "Simulated stones."
    stamp = {"simulated": "stones", "generator": 4, "stones": 3, "size": "small", "seed": 7}
    assert json.loads((out / SIMULATION_STAMP).read_text()) == stamp
    assert not simulate(out, Stones(3, "small", 7))
    (out / "quarry").rename(out / "elsewhere")
    assert simulate(out, Stones(3, "small", 7), overwrite=True)  # it was not complete


@dataclass(frozen=True)
class CutStones(Stones):
    """Stones that a machine cuts, which has to be compiled."""

    sizes = ("tiny", "large")
    compiles = True
    calls = []

    def write_part(self, root, index):
        self.calls.append(("part", self.size, index))
        return super().write_part(root, index)


def test_the_first_simulation_is_compiled_before_its_progress_begins(tmp_path, monkeypatch):
    """A part at size tiny is made and thrown away, in the first set alone."""
    monkeypatch.setattr(jit, "_cache_folder", lambda source: tmp_path)
    calls = CutStones.calls
    calls.clear()
    told = dict(progress=lambda done, total: calls.append((done, total)), compiling=lambda: calls.append("compiling"))
    later = [(0, 2), ("part", "large", 0), (1, 2), ("part", "large", 1), (2, 2)]
    for out, first in (("a", ["compiling", ("part", "tiny", 0)]), ("b", [])):
        calls.clear()
        assert simulate(tmp_path / out, CutStones(2, "large", 0), **told)
        assert calls == [*first, *later]
        assert len(list((tmp_path / out / "quarry").iterdir())) == 2
    monkeypatch.setattr(jit, "_cache_folder", lambda source: None)  # every process compiles for itself
    calls.clear()
    assert simulate(tmp_path / "c", CutStones(2, "large", 0), **told) and calls == later


def test_sets_that_numba_makes_are_compiled_ahead():
    assert {name for name, kind in SETTINGS.items() if kind.compiles} == {
        *("nuscenes", "argoverse2", "semantickitti", "kitti_object")
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_say_what_is_wrong_with_them(name):
    settings = SETTINGS[name]
    count = getattr(settings, "least", 3)  # of SemanticKITTI's sequences there is a most, too
    assert settings(count, "tiny", 0).count == count
    for arguments, message in (
        ((count - 1, "tiny", 0), rf"simulate: {settings.parts} must be an integer .*, got {count - 1}"),
        ((count, "huge", 0), "simulate: size must be one of tiny, small, full, got 'huge'"),
        ((count, "tiny", -1), "simulate: seed must be an integer >= 0, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            settings(*arguments)


def test_every_format_is_stamped_apart():
    assert len({settings.kind for settings in SETTINGS.values()}) == len(SETTINGS)


@pytest.mark.parametrize("name", ["nuscenes", "argoverse2", "semantickitti", "kitti", "s3dis", "shapenet_part"])
def test_the_tool_calls_parts_what_the_settings_call_them(name, tmp_path, monkeypatch, capsys):
    asked = []
    settings = SETTINGS["kitti_object" if name == "kitti" else name]
    count = max(getattr(settings, "least", 3), 4)
    monkeypatch.setattr("sys.argv", ["simulate.py", name, f"--{settings.parts}", str(count), "--out", str(tmp_path)])
    monkeypatch.setattr("pcperc.simulation.data_set.simulate", lambda out, settings, **_: not asked.append(settings))
    tool.main()
    assert asked[0].count == count and f"{count} simulated {settings.parts}" in capsys.readouterr().out
