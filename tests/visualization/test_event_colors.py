# SPDX-License-Identifier: Apache-2.0
"""Colours of the clusters of an event: which cluster has which, and how many have one."""

import numpy as np
import pytest

from pcperc.visualization.colors import BACKGROUND
from pcperc.visualization.event_colors import (
    CLASS_COLORS,
    CLUSTER_COLORS,
    FURTHER,
    IN_NO_CLUSTER,
    NUM_COLORED,
    UNKNOWN,
    colors_of_hits,
)
from pcperc.visualization.event_display import draw_event
from tests.calorimeter_events import made_event
from tests.visualization.color_distance import color_distance
from tests.visualization.event_frames import found, frame, written


def palette(numbers):
    """The colours that hits of these numbers have; None: further clusters."""
    table = {None: FURTHER, -1: IN_NO_CLUSTER} | dict(enumerate(CLUSTER_COLORS))
    return [list(table[number]) for number in numbers]


def test_a_predicted_cluster_has_the_colour_of_the_shower_that_it_shares_most_energy_with():
    truth = np.array([-1, 0, 0, 0, 1, 1, 2, -1])
    hits = np.zeros((8, 9), np.float32)
    hits[:, 0] = [9, 1, 1, 5, 1, 2, 1, 1]
    # 0 has most hits of shower 1 but most energy of shower 0; 1 holds shower 2; 2 holds noise alone.
    predicted = found([2, -1, -1, 0, 0, 0, 1, -1])
    colors = colors_of_hits(frame(predicted, hits=hits, instance=truth, **{"class": (truth >= 0).astype(int)}))
    assert colors["truth"].tolist() == palette(truth)  # by falling energy as they are: 7, 3 and 1 GeV
    assert colors["prediction"].tolist() == palette([3, -1, -1, 0, 0, 0, 2, -1])  # the first that no shower has
    by_class = colors_of_hits(frame(predicted, hits=hits, instance=truth, **{"class": (truth >= 0) * 2}), by="class")
    assert by_class["truth"][1].tolist() == list(CLASS_COLORS["hadronic"])
    without = colors_of_hits(frame(predicted, hits=hits, instance=truth, **{"class": None}), by="class")
    assert without["truth"].tolist() == [list(UNKNOWN)] * 8 and without["prediction"][3].tolist() != list(UNKNOWN)
    with pytest.raises(ValueError, match="by must be one of cluster, class, got 'height'"):
        colors_of_hits(frame(), by="height")


def test_less_than_half_of_its_energy_is_no_match():
    truth = np.array([0, 0, -1, 1, 1, -1])
    hits = np.zeros((6, 9), np.float32)
    hits[:, 0] = [4, 1, 4.5, 2, 1, 2]
    # 0: 4 of 8.5 GeV are of shower 0; 1: 2 of 4, just half.
    colors = colors_of_hits(frame(found([0, -1, 0, 1, -1, 1]), hits=hits, instance=truth, **{"class": None}))
    assert colors["prediction"].tolist() == palette([2, -1, 2, 1, -1, 1])


def test_pieces_of_a_shower_are_told_apart_and_showers_may_have_any_numbers():
    """The piece with most of its energy has its colour; numbers of recHits' clusters have gaps and are large."""
    truth = np.array([7, 7, 7, 7, 2**40, 2**40])
    hits = np.zeros((6, 9), np.float32)
    hits[:, 0] = [1, 4, 1, 1, 1, 1]
    predicted = found([0, 1, 2, 2, 3, 3])
    colors = colors_of_hits(frame(predicted, hits=hits, instance=truth, **{"class": None}))
    assert colors["truth"].tolist() == palette([0, 0, 0, 0, 1, 1])
    assert colors["prediction"].tolist() == palette([3, 0, 2, 2, 1, 1])  # of two pieces the first colour to the larger


def test_only_clusters_of_most_energy_are_in_colours(monkeypatch):
    """More colours would be confetti; the heading counts those in grey. Where nobody said which there are is a dash."""
    many = np.arange(80) // 2 - 10
    event = made_event(np.random.default_rng(0), 3)
    sums = np.bincount(many[many >= 0], weights=event["hits"][many >= 0, 0])
    rank = np.argsort(np.argsort(-sums))
    expected = palette([-1 if k < 0 else rank[k] if rank[k] < NUM_COLORED else None for k in many])
    bare = {"instance": None, "class": None, "scene_name": ""}
    alone = frame(found(many), **bare)
    assert len(sums) == 30 and NUM_COLORED == 20 == len({*CLUSTER_COLORS} - {IN_NO_CLUSTER, FURTHER})
    assert colors_of_hits(alone)["prediction"].tolist() == expected
    # With 30 showers as well: those of most energy have theirs, and no other cluster has one.
    shifted = np.roll(many, 1)
    both = colors_of_hits(frame(found(shifted), instance=many, **{"class": None}))
    assert both["truth"].tolist() == expected
    told = {tuple(color) for color in both["prediction"].tolist()}
    assert told <= {*CLUSTER_COLORS, IN_NO_CLUSTER, FURTHER} and FURTHER in told
    texts = written(monkeypatch)
    draw_event(alone)
    assert texts[3:6] == ["20 clusters in colours", "10 further ones", "in no cluster"]
    texts.clear()
    draw_event(frame(**bare))
    assert texts[0] == f"hits: - clusters, - of {event['hits'][:, 0].sum():.0f} GeV" and "in no cluster" not in texts
    texts.clear()
    draw_event(frame(), color_by="class")
    assert texts[3:6] == list(CLASS_COLORS)
    draw_event(frame(**{"class": None}), color_by="class")
    assert "classes: -" in texts


def test_colours_are_told_apart():
    """By CIELAB, in which 2.3 can just be seen: what has no colour of its own, from one another and from all others."""
    assert color_distance(FURTHER, IN_NO_CLUSTER) > 40
    for color in (FURTHER, IN_NO_CLUSTER):
        assert min(color_distance(color, other) for other in (*CLUSTER_COLORS, BACKGROUND)) > 25
    assert CLASS_COLORS["noise"] == IN_NO_CLUSTER
