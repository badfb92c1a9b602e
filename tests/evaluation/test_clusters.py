# SPDX-License-Identifier: Apache-2.0
"""Scores of clusters: against the definitions on random partitions, and on cases that are worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.evaluation import (
    cluster_scores,
    count_event,
    count_matches,
    format_cluster_scores,
    match_clusters,
    mean_qualities,
    qualities,
)
from tests import oracles_clusters as oracle

CLASSES = 4
hit = st.tuples(
    st.integers(0, CLASSES - 2),  # one class is always empty
    st.integers(-1, 3),
    st.integers(0, CLASSES - 2),
    st.integers(-1, 3),
    st.one_of(st.just(0.0), st.floats(2**-10, 100.0, width=32), st.sampled_from([0.1, 0.2, 0.3])),
    st.booleans(),  # whether the prediction repeats the truth, so that there are matches
)


def columns(hits):
    table = [(tc, ti, tc if same else pc, ti if same else pi, e) for tc, ti, pc, pi, e, same in hits]
    arrays = [np.array([row[i] for row in table], np.int64) for i in range(4)]
    return [*arrays, np.array([row[4] for row in table], np.float64)]


@settings(deadline=None, max_examples=150)
@given(st.lists(hit, max_size=24), st.booleans(), st.booleans())
def test_counts_and_qualities_are_those_of_the_definition(hits, by_energy, weighted):
    tc, ti, pc, pi, energy = columns(hits)
    matches = match_clusters(tc, ti, pc, pi, energy, by_energy=by_energy)
    counts = count_matches(matches, num_classes=CLASSES, weighted=weighted)
    truth = oracle.segments_of(tc.tolist(), ti.tolist())
    predicted = oracle.segments_of(pc.tolist(), pi.tolist())
    expected, pairs = oracle.panoptic_counts(
        truth, predicted, energy.tolist(), num_classes=CLASSES, by_energy=by_energy, weighted=weighted
    )
    assert counts == pytest.approx(np.array(expected), rel=1e-9, abs=1e-12)
    names = [list(zip(s.label.tolist(), s.instance.tolist(), strict=True)) for s in matches[:2]]
    found = {names[0][i]: (names[1][j], matches.iou[i]) for i, j in enumerate(matches.matched) if j >= 0}
    assert {key: value[0] for key, value in found.items()} == {key: value[0] for key, value in pairs.items()}
    assert [found[key][1] for key in pairs] == pytest.approx([value[1] for value in pairs.values()], rel=1e-9)
    assert all(matches.matched_truth[j] == i for i, j in enumerate(matches.matched) if j >= 0)
    assert (matches.matched_truth >= 0).sum() == len(pairs)
    by_class = [oracle.qualities(row) for row in expected]
    for row, values in zip(qualities(counts), by_class, strict=True):
        assert np.isnan(row).all() if values is None else row == pytest.approx(values, rel=1e-9)
    present = [values for values in by_class if values is not None]
    if present:
        assert mean_qualities(counts) == pytest.approx(np.mean(present, axis=0), rel=1e-9)
    else:
        assert np.isnan(mean_qualities(counts)).all()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(hit, max_size=8), max_size=4))
def test_scores_of_a_data_set_are_those_of_the_definition(events):
    """Events without hits, of noise alone and without a class among them."""
    classes = ["noise", "a", "b", "never"]
    events = [columns(hits) for hits in events]
    found = cluster_scores([count_event(*event, num_classes=CLASSES) for event in events], classes)
    expected = oracle.data_set_scores([tuple(column.tolist() for column in event) for event in events], classes)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def by_hand():
    """Two true showers of 4 and 2 hits; the first loses a hit and gains one of noise, the second is split."""
    truth = [0, 0, 0, 0, 1, 1, -1]
    predicted = [5, 5, 5, 6, 7, 8, 5]
    energy = [1.0, 1.0, 1.0, 9.0, 3.0, 1.0, 2.0]
    zeros = np.zeros(7, np.int64)
    return zeros, np.array(truth), zeros, np.array(predicted), np.array(energy)


def test_hits_and_energy_may_disagree_about_a_match():
    by_hits = count_matches(match_clusters(*by_hand()), num_classes=1)[0]
    assert by_hits.tolist() == [3 / 5, 1, 3, 1]  # IoU 3/5; the second is split in halves: IoU 1/2 is no match
    assert qualities(by_hits) == pytest.approx([0.6, 1 / 3, 0.2])
    by_energy = count_matches(match_clusters(*by_hand(), by_energy=True), num_classes=1)[0]
    # Predicted 6 has 9 of the 12 GeV of the first, predicted 7 has 3 of the 4 of the second: IoU 3/4 each.
    assert by_energy == pytest.approx([1.5, 2, 2, 0])
    weighted = count_matches(match_clusters(*by_hand(), by_energy=True), num_classes=1, weighted=True)[0]
    assert weighted == pytest.approx([12.0, 16.0, 6.0, 0.0])
    assert qualities(weighted) == pytest.approx([0.75, 16 / 19, 12 / 19])


def test_noise_in_a_cluster_lowers_the_iou_and_noise_alone_is_no_segment():
    tc, ti, pc, pi, energy = by_hand()
    pi[6] = -1
    assert match_clusters(tc, ti, pc, pi, energy).iou[0] == 3 / 4
    noise = np.full(7, -1)
    matches = match_clusters(tc, noise, pc, noise, energy)
    assert np.isnan(qualities(count_matches(matches, num_classes=2))).all()
    only_fakes = count_matches(match_clusters(tc, noise, pc, pi, energy), num_classes=1)
    assert only_fakes.tolist() == [[0, 0, 4, 0]] and qualities(only_fakes).tolist() == [[0, 0, 0]]


def test_the_class_must_agree_and_events_add_up():
    tc, ti, pc, pi, energy = by_hand()
    assert (match_clusters(tc, ti, pc + 1, pi, energy).matched == -1).all()
    first, second = (
        count_matches(match_clusters(*args), num_classes=2)
        for args in ((tc, ti, pc, pi, energy), (tc + 1, ti, pc + 1, ti, energy))
    )
    assert qualities(first + second)[:, 2] == pytest.approx([0.2, 1.0])
    assert mean_qualities(first + second)[2] == pytest.approx(0.6)
    empty = count_matches(match_clusters(*(np.zeros(0, np.int64),) * 4, np.zeros(0)), num_classes=2)
    assert (first + empty == first).all()


def test_equal_halves_by_energy_never_match_twice():
    energy = np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.3])
    zeros = np.zeros(6, np.int64)
    for order in ([0, 1, 2, 3, 4, 5], [5, 1, 3, 2, 4, 0], [2, 1, 0, 5, 4, 3]):
        half = np.array([0, 0, 0, 1, 1, 1])[order]
        assert (match_clusters(zeros, zeros, zeros, half, energy[order], by_energy=True).matched == -1).all()


@pytest.mark.parametrize(
    "position, value, message",
    [
        (1, np.zeros(6, np.int64), r"truth_instance must be \(7,\), one a hit, got \(6,\)"),
        (3, np.zeros(7), "predicted_instance must be integers, got float64"),
        (0, np.full(7, -1), "truth_class of a hit with an instance must be >= 0"),
        (4, np.full(7, -1.0), "energy must be finite and >= 0, got -1"),
        (4, np.full(7, np.nan), "energy must be finite and >= 0, got nan"),
        (4, np.ones((7, 1)), r"energy must be \(N,\)"),
    ],
)
def test_wrong_arguments_are_named(position, value, message):
    arguments = list(by_hand())
    arguments[position] = value
    with pytest.raises(ValueError, match=message):
        match_clusters(*arguments)


def test_too_few_classes_are_named():
    tc, ti, pc, pi, energy = by_hand()
    with pytest.raises(ValueError, match="predicted classes must be < 2, got 3"):
        count_matches(match_clusters(tc, ti, pc + 3, pi, energy), num_classes=2)


def test_scores_of_a_data_set_are_per_class_and_per_event():
    tc, ti, pc, pi, energy = by_hand()
    classes = ("noise", "electromagnetic", "hadronic")
    poor = count_event(tc + 1, ti, pc + 1, pi, energy, num_classes=3)
    perfect = count_event(tc + 2, ti, pc + 2, ti, energy, num_classes=3)
    noise = count_event(tc, ti * 0 - 1, pc, pi * 0 - 1, energy, num_classes=3)
    scores = cluster_scores([poor, perfect, perfect, noise], classes)
    assert scores["hits/electromagnetic/PQ"] == pytest.approx(0.2) and scores["hits/hadronic/PQ"] == 1.0
    assert scores["hits/PQ"] == pytest.approx(0.6), "mean of the two classes that are present"
    assert scores["hits/event/PQ"] == pytest.approx((0.2 + 1 + 1) / 3), "an event without segments has no score"
    assert scores["weighted/electromagnetic/SQ"] == pytest.approx(0.75)
    assert scores["energy/electromagnetic/PQ"] == pytest.approx(0.75 * 2 / 3)
    assert not any("noise" in key for key in scores) and len(scores) == 3 * 3 * 4
    text = format_cluster_scores(scores, classes, title="test (simulated data)")
    row = next(line for line in text.splitlines() if "electromagnetic" in line)
    assert "simulated" in text and [cell.strip() for cell in row.strip("│ ").split("│")][3] == "0.200"
    assert cluster_scores([], classes) == {} and "-" in format_cluster_scores({}, classes, title="none")
