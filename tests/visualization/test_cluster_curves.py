# SPDX-License-Identifier: Apache-2.0
"""The picture of cluster curves is drawn from what `curve` says, also of tables with little in them."""

import cv2
import numpy as np
import pytest

from pcperc.evaluation import ClusterTable, curve, curve_errors
from pcperc.visualization.cluster_curves import ENTRIES, FEW, draw_cluster_curves

EDGES = {"energy_edges": [1.0, 10.0, 100.0], "distance_edges": [0.0, 10.0, 50.0]}


def table(count=200, efficiency=0.8):
    rng = np.random.default_rng(0)
    energy, apart = rng.uniform(1, 100, count), rng.uniform(0, 50, count)
    found = rng.random(count) < efficiency
    response = np.where(found, rng.normal(1, 0.1, count), np.nan)
    kinds = np.zeros(count, int), np.full(count, "")
    return ClusterTable(energy, apart, found, response, energy, apart, ~found, *kinds, *kinds)


def test_another_efficiency_is_another_picture(tmp_path):
    pytest.importorskip("matplotlib")
    pictures = []
    for name, tables in (
        ("a", {"one": table(), "empty": ClusterTable.joined([])}),
        ("b", {"one": table(efficiency=0.2), "empty": ClusterTable.joined([])}),
    ):
        draw_cluster_curves(tmp_path / f"{name}.png", tables, **EDGES, title="simulated data")
        pictures.append(cv2.imread(str(tmp_path / f"{name}.png")))
    assert pictures[0].shape == pictures[1].shape == (880, 1760, 3)
    assert (pictures[0] != pictures[1]).any() and (pictures[0] < 128).mean() > 0.005


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, in place of files of them."""
    figure, drawn = pytest.importorskip("matplotlib.figure"), []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, path, **_: (drawn.append(self), path.write_bytes(b"p")))
    return drawn


def points_of(panel):
    """Bin, value, ends of the vertical bar, hollow or not and dotted or not of each point of a panel, by colour."""
    found = {}
    for drawn in panel.containers:
        line, _, (wide, long) = drawn.lines
        hollow, dotted = line.get_markerfacecolor() == "white", wide.get_linestyle() == long.get_linestyle()
        dotted = dotted and long.get_linestyle()[0][1] is not None
        for (x, y), bar, across in zip(line.get_xydata(), long.get_segments(), wide.get_segments(), strict=True):
            ends = bar[:, 1].tolist() if len(bar) else [np.nan, np.nan]
            assert across[:, 0].tolist() == pytest.approx([int(x), int(x) + 1])
            found.setdefault(line.get_color(), {})[int(x)] = (y, ends, hollow, dotted)
    return found


def test_each_panel_has_its_own_points(tmp_path, figures):
    """Efficiency, fake rate, response and resolution against energy, then against distance, points of each table."""
    tables = {"one": table(), "other": table(300, 0.3)}
    draw_cluster_curves(tmp_path / "a.png", tables, **EDGES, title="simulated data")
    names = ("efficiency", "fake rate", "mean response", "resolution, deviation / mean")
    for number, panel in enumerate(figures[0].axes):
        against, edges = (("energy", EDGES["energy_edges"]), ("nearest", EDGES["distance_edges"]))[number // 4]
        for color, values in zip(("C0", "C1"), tables.values(), strict=True):
            kind = ("efficiency", "fake_rate", "response", "resolution")[number % 4]
            expected = getattr(curve(values, edges, against=against), kind)
            errors = curve_errors(values, edges, against=against)[kind]
            for place, (value, ends, hollow, dotted) in points_of(panel)[color].items():
                assert value == pytest.approx(expected[place])
                assert ends == pytest.approx([value - errors.below[place], value + errors.above[place]])
                assert hollow == dotted == bool(errors.entries[place] < FEW)
            counts = [text.get_text() for text in panel.texts if text.get_color() == color]
            assert counts == [str(count) for count in errors.entries]
        assert panel.get_ylabel() == names[number % 4] and against in panel.get_xlabel()
        assert ("of the cluster" in panel.get_xlabel()) == (number % 4 == 1)  # fakes are clusters
        assert panel.get_title("left") == ENTRIES[kind] and panel.get_ylim()[0] < 0
        assert [label.get_text() for label in panel.get_xticklabels()] == [f"{edge:g}" for edge in edges]
    assert len(figures[0].axes) == 8 and figures[0].get_suptitle() == "simulated data"
    assert [text.get_text() for text in figures[0].legends[0].get_texts()][:2] == list(tables)


def test_bins_of_few_showers_look_like_it(tmp_path, figures):
    """Of two that were both missed the efficiency is 0 with a bar; of one that was found the response has none."""
    few = table(40)
    few.energy[:], few.found[:], few.response[:] = 2.0, True, 1.0
    few.energy[:3], few.found[:2], few.response[:2] = 50.0, False, np.nan
    draw_cluster_curves(tmp_path / "a.png", {"one": few}, **EDGES, title="")
    efficiency, response, resolution = (points_of(figures[0].axes[k])["C0"] for k in (0, 2, 3))
    assert efficiency[0][2:] == (False, False) and efficiency[1][2:] == (True, True)
    value, ends, hollow, _ = response[1]
    assert value == 1.0 and hollow and np.isnan(ends).all()
    assert list(resolution) == [0]
    assert figures[0].legends[0].get_texts()[-1].get_text() == f"of fewer than {FEW}"
    few.found[2] = False
    draw_cluster_curves(tmp_path / "a.png", {"one": few}, **EDGES, title="")
    low, high = points_of(figures[1].axes[0])["C0"][1][1]
    assert low == 0 and high == pytest.approx(0.25)  # of three: 1 / (n + 1)
    assert figures[1].axes[0].get_ylim()[0] < 0  # the point is not cut in half


@pytest.mark.parametrize("names", [("one",), ("one", "other")])
def test_below_a_panel_stands_what_its_points_leave_out(tmp_path, figures, names):
    first = table()
    first.energy[:3], first.nearest[:5], first.nearest[7] = 500.0, np.inf, 80.0
    first = first._replace(fake_energy=np.append(np.full(4, 0.5), first.energy[4:]), fake_nearest=first.nearest)
    tables = dict(zip(names, (first, table(10)), strict=False))
    draw_cluster_curves(tmp_path / "a.png", tables, **EDGES, title="simulated data")
    panels = figures[0].axes
    notes = [panel.get_xlabel().split("\n")[1:] for panel in panels]
    head, other = ("left out: ", 0) if len(names) == 1 else ("left out of one: ", 1)
    assert notes[0] == [f"{head}3 of 200 showers", "left out of other: 0 of 10 showers"][: 1 + other]
    assert notes[1] == [f"{head}4 of 200 clusters", "left out of other: 0 of 10 clusters"][: 1 + other]
    assert notes[4][0] == notes[6][0] == f"{head}6 of 200 showers (5 alone)"
    assert notes[5][0] == f"{head}6 of 200 clusters" and notes[2] == notes[3] == notes[0]


def test_wrong_arguments_are_named_and_leave_no_file(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="tables must have at least one entry"):
        draw_cluster_curves(tmp_path / "a.png", {}, **EDGES, title="")
    with pytest.raises(ValueError, match="edges must be"):
        draw_cluster_curves(tmp_path / "a.png", {"one": table()}, energy_edges=[1.0], distance_edges=[0, 1], title="")
    assert list(tmp_path.iterdir()) == []


def test_a_panel_without_points_says_so(tmp_path, figures):
    for name, efficiency in (("a", 0.0), ("b", 0.8)):
        draw_cluster_curves(tmp_path / f"{name}.png", {"one": table(efficiency=efficiency)}, **EDGES, title="")
    said = [["too few found" in [text.get_text() for text in panel.texts] for panel in f.axes] for f in figures]
    assert said == [[False, False, True, True] * 2, [False] * 8]
