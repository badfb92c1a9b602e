# SPDX-License-Identifier: Apache-2.0
"""Pictures of calorimeter events: what is drawn where, their legends, and events without hits or truth."""

import cv2
import numpy as np
import pytest

from pcperc.visualization import drawing, event_display, open3d_problem
from pcperc.visualization.colors import SIMULATED
from pcperc.visualization.event_colors import CLUSTER_COLORS, FURTHER, IN_NO_CLUSTER, UNKNOWN
from pcperc.visualization.event_display import HEADER, draw_event, render_event, upright
from pcperc.visualization.event_legend import PANEL_WIDTH, draw_legend_panel
from pcperc.visualization.frame import TRAINED_ON_SIMULATED
from tests.calorimeter_events import made_event
from tests.visualization.event_frames import colored, found, frame, written

needs_open3d = pytest.mark.skipif(open3d_problem() is not None, reason=f"Open3D: {open3d_problem()}")


def test_hits_are_where_they_are(monkeypatch):
    """Along the beam with y upwards; from the side by z and the distance from the beam; large energies on top."""
    places = np.array([[100.0, 60.0, -340.0], [100.0, 60.0, -340.0], [-150.0, -90.0, 500.0], [0.0, 200.0, 420.0]])
    hits = np.zeros((4, 9), np.float32)
    hits[:, 0], hits[:, 5:8] = [50.0, 0.01, 3.0, 9.0], places
    texts = written(monkeypatch)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        instance = np.array([0, 1, 2, -1])[order]
        picture = draw_event(frame(hits=hits[order], instance=instance, **{"class": None}), size=561)
        assert picture.shape == (HEADER + 2 * 561, 2 * 561, 3)
        # A pixel a centimetre along the beam; from the side 220 cm of depth and 280 cm of radius.
        for (x, y, z), color in zip(
            places[[0, 2, 3]], (CLUSTER_COLORS[0], CLUSTER_COLORS[1], IN_NO_CLUSTER), strict=True
        ):
            left = 561 * (z > 0)
            assert picture[HEADER + 280 - int(y), left + 280 + int(x)].tolist() == list(color)
            column, row = (z - (310 if z > 0 else -530)) / 220 * 560, 560 - np.hypot(x, y) / 280 * 560
            assert picture[HEADER + 561 + round(row), left + round(column)].tolist() == list(color)
            other = picture[:, 561 - left :][:, :561]
            assert colored(other, color) == (0 if color != IN_NO_CLUSTER else 144)  # the square of the legend
        assert colored(picture, CLUSTER_COLORS[2]) == 0  # 10 MeV below 50 GeV
    assert texts[0] == "truth: 3 clusters, 53 of 62 GeV" and "SIMULATED DATA" in texts
    assert [text for text in texts if text in ("z < 0", "z > 0")][:2] == ["z < 0", "z > 0"]


def test_names_and_ticks_of_an_axis_are_at_one_side(monkeypatch):
    """Those of what runs to the right at the bottom, of what runs upwards at the left; none is cut or over another."""
    drawn = []
    for module in (event_display, drawing):
        monkeypatch.setattr(module, "draw_text", lambda image, text, place, *_, **o: drawn.append((text, *place, o)))
    hits = np.zeros((2, 9), np.float32)
    hits[:, 7] = 350.0, -350.0
    event_display._endcap(hits[:1], np.zeros((1, 3)), "z > 0", 520)
    event_display._endcap(hits[1:], np.zeros((1, 3)), "z < 0", 520)
    boxes = [[]]
    for text, u, v, options in drawn:
        (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, options["scale"], 1)
        assert u >= 0 and u + width <= 520 and v - height >= 0 and v + below <= 520 + 1, text
        boxes[-1].append((text, u, v - height, u + width, v))
        if text in ("x (cm)", "z (cm)"):
            assert v > 480 and u > 400
            boxes.append([])
        elif "(cm)" in text:
            assert v < 30 and u < 30
        elif text.startswith("z"):
            boxes[-1].pop()
        else:
            assert (u < 10) or (v > 500), text
    assert [len(panel) for panel in boxes] == [12, 7, 12, 7, 0]
    for panel in boxes:
        for number, (_, left, top, right, bottom) in enumerate(panel):
            for _, other_left, other_top, other_right, other_bottom in panel[:number]:
                apart = left >= other_right or other_left >= right or top >= other_bottom or other_top >= bottom
                assert apart


def test_endcaps_are_turned_to_be_looked_at_and_not_mirrored():
    """Depth, what is to the left and y are right-handed, as x, y, z are; for each endcap depth is away from z = 0."""
    steps = np.zeros((8, 9))
    steps[:, 5:8] = np.concatenate([np.insert(np.eye(3), 0, 0, axis=0) + [0, 0, z] for z in (420.0, -420.0)])
    for z, corner in ((1, upright(steps)[:4]), (-1, upright(steps)[4:])):
        axes = corner[1:] - corner[0]
        assert np.linalg.det(axes) == pytest.approx(1.0)
        assert axes[1].tolist() == [0, 0, 1] and axes[2].tolist() == [z, 0, 0]


@pytest.mark.parametrize("draw", [draw_event, pytest.param(render_event, marks=needs_open3d)])
def test_an_event_in_both_endcaps_has_panels_of_each(draw):
    """Each is drawn as if it were alone."""
    event = made_event(np.random.default_rng(0), 3)
    other = event["hits"] * np.array([1, -1, 1, 1, 1, 1, 1, -1, 1], np.float32)
    both = {"hits": np.concatenate([event["hits"], other]), "class": np.tile(event["class"], 2)}
    both["instance"] = np.where(both["class"] > 0, np.tile(event["instance"], 2) % 3, -1)  # showers reach both
    ahead, behind = draw(frame()), draw(frame(hits=other))
    picture = draw(frame(**both))
    axis = 1 if draw is draw_event else 0
    panels = np.split(picture[HEADER:], 2, axis=axis)
    for panel, alone in zip(panels, (behind, ahead), strict=True):
        same = (panel == alone[HEADER:]).all(axis=-1)
        assert same[:, 1:].all()  # but for the line between the two
    assert [name for name, _ in frame(**both).endcaps()] == ["z < 0", "z > 0"]
    assert [name for name, _ in frame(hits=other).endcaps()] == ["z < 0"]


def test_pictures_say_of_whose_data_the_network_was(monkeypatch):
    texts = written(monkeypatch)
    predicted = found(np.arange(80) // 20 - 1)
    for network in (True, False):
        shown = frame(predicted, simulated=False, trained_on_simulated=network)
        draw_event(shown)
        assert texts.count(TRAINED_ON_SIMULATED) == network and "SIMULATED DATA" not in texts  # at the prediction
        assert (TRAINED_ON_SIMULATED in shown.title()) == network
        texts.clear()
        draw_legend_panel(shown, 300, color_by="cluster", shown=["truth z > 0", "prediction z > 0"])
        assert (TRAINED_ON_SIMULATED in texts) == network
        assert {"truth z > 0", "truth: in no cluster", "prediction: in no cluster"} <= {*texts}
        texts.clear()
    draw_event(frame(predicted))
    assert texts.count("in no cluster: pile-up and noise") == texts.count("in no cluster") == 1  # truth, prediction
    texts.clear()
    draw_event(frame(trained_on_simulated=True))  # the truth alone is of no network
    assert TRAINED_ON_SIMULATED not in texts
    monkeypatch.undo()
    picture = draw_event(frame(predicted, simulated=False, trained_on_simulated=True))
    assert colored(picture[:HEADER, :520], SIMULATED) == 0 < colored(picture[:HEADER, 520:], SIMULATED)


def test_the_legend_has_a_square_of_each_colour():
    many = found(np.arange(80) // 2 - 10)
    for picture in (
        draw_event(frame(many))[:HEADER, 520:],
        draw_legend_panel(frame(many), 400, color_by="cluster", shown=[]),
    ):
        assert colored(picture, FURTHER) >= 144 and colored(picture, IN_NO_CLUSTER) >= 144
    assert draw_legend_panel(frame(), 400, color_by="class", shown=[]).shape == (400, PANEL_WIDTH, 3)


@pytest.mark.parametrize("draw", [draw_event, pytest.param(render_event, marks=needs_open3d)])
def test_pictures(draw):
    both = draw(frame(found(np.arange(80) // 20 - 1)))
    truth = draw(frame())
    assert both.dtype == np.uint8 and both.shape[1] == 2 * truth.shape[1]
    # The same clusters, so the same picture twice but for its heading.
    header, width = HEADER, truth.shape[1]
    assert (both[header:, :width] == both[header:, width:]).all() and (both[header:, :width] == truth[header:]).all()
    assert all(colored(truth, color) > 20 for color in (*CLUSTER_COLORS[:3], IN_NO_CLUSTER))
    assert colored(truth[:header], SIMULATED) > 20
    alone = draw(frame(simulated=False, instance=None, **{"class": None}))
    assert colored(alone[:header], SIMULATED) == colored(alone, CLUSTER_COLORS[0]) == 0 < colored(alone, UNKNOWN)


@pytest.mark.parametrize("draw", [draw_event, pytest.param(render_event, marks=needs_open3d)])
def test_an_event_without_hits(draw):
    nothing = np.zeros(0, np.int64)
    empty = {"hits": np.zeros((0, 9), np.float32), "instance": nothing, "class": nothing}
    assert draw(frame(found(nothing), **empty)).any()


def test_predictions_of_another_length():
    with pytest.raises(ValueError, match="predictions must be of 80 hits, got 3"):
        frame(found([0, 1, 2]))
