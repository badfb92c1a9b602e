# SPDX-License-Identifier: Apache-2.0
"""The picture of cluster curves is drawn from what `curve` says, also of tables with little in them."""

import cv2
import numpy as np
import pytest

from pcperc.evaluation import ClusterTable, curve
from pcperc.visualization.cluster_curves import draw_cluster_curves

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
    assert pictures[0].shape == pictures[1].shape == (770, 1650, 3)
    assert (pictures[0] != pictures[1]).any() and (pictures[0] < 128).mean() > 0.005


def test_each_panel_has_its_own_curve(tmp_path, monkeypatch):
    """Efficiency, fake rate, response and resolution against energy, then against distance, a line for each table."""
    figure = pytest.importorskip("matplotlib.figure")
    drawn = []

    def save(self, path, **options):
        drawn.append(self)
        path.write_bytes(b"picture")

    monkeypatch.setattr(figure.Figure, "savefig", save)
    tables = {"one": table(), "other": table(300, 0.3)}
    draw_cluster_curves(tmp_path / "a.png", tables, **EDGES, title="simulated data")
    for number, panel in enumerate(drawn[0].axes):
        against, edges = (("energy", EDGES["energy_edges"]), ("nearest", EDGES["distance_edges"]))[number // 4]
        lines = [patch.get_data() for patch in panel.patches]
        assert [patch.get_label() for patch in panel.patches] == list(tables)
        for line, values in zip(lines, tables.values(), strict=True):
            assert list(line.edges) == edges
            assert line.values == pytest.approx(curve(values, edges, against=against)[1 + number % 4])
        name = ("efficiency", "fake rate", "mean response", "resolution, deviation / mean")[number % 4]
        assert panel.get_ylabel() == name and against in panel.get_xlabel()
    assert len(drawn[0].axes) == 8 and drawn[0].get_suptitle() == "simulated data"


@pytest.mark.parametrize("names", [("one",), ("one", "other")])
def test_below_a_panel_stands_what_its_curves_leave_out(tmp_path, monkeypatch, names):
    figure = pytest.importorskip("matplotlib.figure")
    drawn = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, path, **_: (drawn.append(self), path.write_bytes(b"p")))
    first = table()
    first.energy[:3], first.nearest[:5], first.nearest[7] = 500.0, np.inf, 80.0
    first = first._replace(fake_energy=np.append(np.full(4, 0.5), first.energy[4:]), fake_nearest=first.nearest)
    tables = dict(zip(names, (first, table(10)), strict=False))
    draw_cluster_curves(tmp_path / "a.png", tables, **EDGES, title="simulated data")
    panels = drawn[0].axes
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


def test_a_panel_without_a_curve_says_so(tmp_path):
    pytest.importorskip("matplotlib")
    draw_cluster_curves(tmp_path / "a.png", {"one": table(efficiency=0.0)}, **EDGES, title="simulated data")
    draw_cluster_curves(tmp_path / "b.png", {"one": table()}, **EDGES, title="simulated data")
    middle = [cv2.imread(str(tmp_path / f"{name}.png"))[150:200, 1400:1560] for name in "ab"]  # of the resolution
    assert (middle[0].max(-1) < 100).any() and not (middle[1].max(-1) < 100).any()
