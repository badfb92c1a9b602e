# SPDX-License-Identifier: Apache-2.0
"""Showers one by one and in bins: against the definitions on random partitions, and on cases worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.evaluation import cluster_table, curve, curve_errors, left_out, match_clusters
from pcperc.evaluation.cluster_response import ClusterTable, segment_centres
from tests import oracles_clusters as oracle
from tests.evaluation.test_clusters import by_hand, columns, hit


@settings(deadline=None, max_examples=80)
@given(st.lists(st.lists(hit, max_size=16), max_size=4), st.integers(0, 1000))
def test_showers_and_curves_of_a_data_set_are_those_of_the_definition(events, seed):
    """Energies, distances and responses one by one; efficiency, fake rate, response and resolution by bin."""
    rng = np.random.default_rng(seed)
    tables, rows, fakes = [], [], []
    for tc, ti, pc, pi, energy in map(columns, events):
        energy = energy + 0.125  # a shower without energy is looked at elsewhere
        xyz = rng.normal(size=(len(energy), 3))
        matches = match_clusters(tc, ti, pc, pi, energy, by_energy=True)
        parts = ((matches.truth, tc, ti), (matches.predicted, pc, pi))
        tables.append(cluster_table(matches, *(segment_centres(*part, energy, xyz) for part in parts)))
        segments = (oracle.segments_of(*(one.tolist() for one in pair)) for pair in ((tc, ti), (pc, pi)))
        found = oracle.showers(*segments, energy.tolist(), xyz.tolist())
        rows, fakes = rows + found[0], fakes + found[1]
    table = ClusterTable.joined(tables)
    nan = float("nan")
    expected = [(*row[:2], row[2] is not None, nan if row[2] is None else row[2]) for row in rows]
    listed = [[row[i] for row in expected] for i in range(4)] + [[row[i] for row in fakes] for i in range(3)]
    for ours, theirs in zip(table[:7], listed, strict=True):
        assert ours.tolist() == pytest.approx(theirs, rel=1e-9, nan_ok=True)
    for against, column, edges in (("energy", 0, [0.5, 10.0, 40.0, 150.0]), ("nearest", 1, [0.0, 0.5, 1.5, 9.0])):
        found = np.array(curve(table, edges, against=against)).T
        for ours, theirs in zip(found, oracle.curve(rows, fakes, edges, column), strict=True):
            values = [nan if value is None else value for value in theirs]
            assert ours.tolist() == pytest.approx(values, rel=1e-6, abs=1e-9, nan_ok=True)
        outside = left_out(table, edges, against=against)
        missing = [sum(not edges[0] <= row[column] <= edges[-1] for row in part) for part in (rows, fakes)]
        assert (outside.showers, outside.all_showers, outside.clusters) == (missing[0], len(rows), missing[1])
        assert outside.lone == (sum(math.isinf(row[1]) for row in rows) if column else 0)


def table_by_hand(**options):
    tc, ti, pc, pi, energy = by_hand()
    matches = match_clusters(tc, ti, pc, pi, energy)
    xyz = np.column_stack([[0, 0, 0, 0, 10, 10, 5], np.zeros(7)]).astype(float)
    centres = [segment_centres(s, c, i, energy, xyz) for s, c, i in ((matches[0], tc, ti), (matches[1], pc, pi))]
    return matches, centres, cluster_table(matches, *centres, **options)


def test_table_has_response_fakes_and_distances():
    _, centres, table = table_by_hand()
    assert centres[0].tolist() == [[0, 0], [10, 0]]
    assert centres[1][0] == pytest.approx([2.0, 0.0])  # 2 of 5 GeV at 5 cm
    assert table.energy.tolist() == [12, 4] and table.nearest.tolist() == [10, 10]
    assert table.found.tolist() == [True, False]
    assert table.response[0] == pytest.approx(5 / 12) and math.isnan(table.response[1])
    assert table.fake.tolist() == [False, True, True, True] and table.fake_energy.tolist() == [5, 9, 3, 1]
    assert table.fake_nearest.tolist() == [
        8,
        0,
        0,
        0,
    ]  # the first is 2 from the shower that it matches, 8 from the other
    assert set(table.event) == set(table.fake_event) == {""}


def test_classes_and_events_of_the_rows_of_a_table():
    """Two events of electromagnetic (1) and hadronic (2) showers; the nearest one may be of the other class."""
    tables = []
    for event, classes in (("a", [2, 1, 1]), ("longer name", [2])):
        truth, instance = np.repeat(classes, 4), np.repeat(np.arange(len(classes)), 4)
        predicted = np.where(instance == 1, 2, truth)  # the second is taken for a hadron, and so is not found
        energy, xyz = np.ones(len(truth)), np.column_stack([10.0**instance, 0 * instance])
        matches = match_clusters(truth, instance, predicted, instance, energy, by_energy=True)
        pairs = ((matches.truth, truth, instance), (matches.predicted, predicted, instance))
        centres = [segment_centres(*pair, energy, xyz) for pair in pairs]
        tables.append(cluster_table(matches, *centres, event=event))
    table = ClusterTable.joined([ClusterTable.joined([]), *tables])
    assert table.label.tolist() == [1, 1, 2, 2] and table.fake_label.tolist() == [1, 2, 2, 2]
    assert table.event.tolist() == ["a", "a", "a", "longer name"] == table.fake_event.tolist()
    parts = table.by_class(["noise", "electromagnetic", "hadronic"])
    assert list(parts) == ["electromagnetic", "hadronic"]
    electromagnetic, hadronic = parts.values()
    assert electromagnetic.found.tolist() == [False, True] and hadronic.found.tolist() == [True, True]
    assert electromagnetic.nearest.tolist() == [9, 90] and hadronic.nearest.tolist() == [9, np.inf]
    assert electromagnetic.fake.tolist() == [False] and sorted(hadronic.fake.tolist()) == [False, False, True]
    assert hadronic.fake_event.tolist() == ["a", "a", "longer name"] and len(hadronic.response) == 2
    assert ClusterTable.joined([]).by_class(["noise", "hadronic"]) == {}


def test_curves_by_energy_and_by_distance():
    table = ClusterTable(
        energy=np.array([1.0, 2.0, 5.0, 10.0, 99.0]),
        nearest=np.array([1.0, 1.0, 9.0, np.inf, 9.0]),
        found=np.array([True, True, False, True, True]),
        response=np.array([0.8, 1.2, np.nan, 1.0, 1.0]),
        fake_energy=np.array([1.0, 1.5, 6.0]),
        fake_nearest=np.array([0.0, 12.0, np.inf]),
        fake=np.array([True, False, True]),
        label=np.zeros(5, int),
        event=np.full(5, "a"),
        fake_label=np.zeros(3, int),
        fake_event=np.full(3, "a"),
    )
    found = curve(table, [1.0, 5.0, 10.0])
    assert found.showers.tolist() == [2, 2] and found.efficiency.tolist() == [1.0, 0.5]
    assert found.fake_rate.tolist() == [0.5, 1.0]
    assert found.response == pytest.approx([1.0, 1.0])
    assert found.resolution[0] == pytest.approx(math.sqrt(0.08)) and math.isnan(found.resolution[1])
    assert left_out(table, [1.0, 5.0, 10.0]) == (1, 5, 0, 0, 3)  # the shower of 99 GeV; edges are inside
    assert left_out(table, [1.5, 4.0]) == (4, 5, 0, 2, 3)
    alone = left_out(table, [0.0, 5.0, 20.0], against="nearest")
    assert alone == (1, 5, 1, 1, 3) and alone.of_showers() == "1 of 5 showers (1 alone)"
    assert left_out(table, [0.0, 5.0], against="nearest").of_showers() == "3 of 5 showers (1 alone)"
    assert left_out(table, [0.0, 5.0, np.inf], against="nearest") == (0, 5, 0, 0, 3)
    assert alone.of_clusters() == "1 of 3 clusters"
    assert left_out(ClusterTable.joined([]), [0.0, 1.0]) == (0, 0, 0, 0, 0)
    apart = curve(table, [0.0, 5.0, 20.0], against="nearest")
    assert apart.showers.tolist() == [2, 2] and apart.fake_rate.tolist() == [1.0, 0.0]
    empty = curve(ClusterTable.joined([]), [0.0, 1.0])
    assert empty.showers.tolist() == [0] and math.isnan(empty.efficiency[0]) and math.isnan(empty.fake_rate[0])
    assert len(ClusterTable.joined([table, table]).energy) == 10
    with pytest.raises(ValueError, match="edges must be"):
        curve(table, [1.0, 1.0])
    with pytest.raises(ValueError, match="against must be energy or nearest, got 'eta'"):
        curve(table, [0.0, 1.0], against="eta")
    with pytest.raises(ValueError, match="left_out: against must be energy or nearest, got 'eta'"):
        left_out(table, [0.0, 1.0], against="eta")


def test_a_lone_shower_has_nobody_near_and_empty_events_have_empty_tables():
    zeros = np.zeros(3, np.int64)
    matches = match_clusters(zeros, zeros, zeros, zeros, np.zeros(3))
    centres = segment_centres(matches.truth, zeros, zeros, np.zeros(3), np.arange(6.0).reshape(3, 2))
    assert centres.tolist() == [[2.0, 3.0]]  # by hits where there is no energy
    table = cluster_table(matches, centres, centres)
    assert table.nearest.tolist() == [np.inf] and math.isnan(table.response[0]) and table.found.tolist() == [True]
    nothing = np.zeros(0, np.int64)
    matches = match_clusters(nothing, nothing, nothing, nothing, np.zeros(0))
    centres = segment_centres(matches.truth, nothing, nothing, np.zeros(0), np.zeros((0, 3)))
    assert len(cluster_table(matches, centres, centres).energy) == 0
    with pytest.raises(ValueError, match=r"truth_centres must be \(0, D\), got \(1, 3\)"):
        cluster_table(matches, np.zeros((1, 3)), centres)


def test_errors_of_parts_are_wilsons_interval():
    """The ends p0 are where the part is one standard deviation from p0: |p - p0| = sqrt(p0 (1 - p0) / n)."""
    for hits, count in ((0, 3), (2, 5), (7, 7), (40, 400)):
        found = np.arange(count) < hits
        energy, kinds = np.ones(count), (np.zeros(count, int), np.full(count, ""))
        table = ClusterTable(energy, energy, found, np.full(count, np.nan), energy, energy, ~found, *kinds, *kinds)
        errors = curve_errors(table, [0.0, 2.0, 4.0])
        part = hits / count
        ends = part - errors["efficiency"].below[0], part + errors["efficiency"].above[0]
        for end in ends:
            assert abs(part - end) == pytest.approx(math.sqrt(max(end * (1 - end), 0) / count), abs=1e-12)
        assert errors["efficiency"].entries.tolist() == errors["fake_rate"].entries.tolist() == [count, 0]
        assert errors["fake_rate"].above[0] == pytest.approx(errors["efficiency"].below[0])
        assert math.isnan(errors["efficiency"].above[1]) and errors["response"].entries.tolist() == [0, 0]


def test_errors_of_response_and_resolution_are_how_far_they_scatter():
    rng = np.random.default_rng(0)
    response = rng.normal(0.9, 0.2, (2000, 25))
    spread = response.std(axis=1, ddof=1)
    energy, kinds = np.ones(25), (np.zeros(25, int), np.full(25, ""))
    table = ClusterTable(energy, energy, energy > 0, response[0], energy, energy, energy < 0, *kinds, *kinds)
    errors = curve_errors(table, [0.0, 2.0])
    mean, own = response[0].mean(), spread[0]
    assert errors["response"].above[0] == errors["response"].below[0] == pytest.approx(own / 5)
    expected = own / mean * math.sqrt(1 / 48 + (own / mean) ** 2 / 25)
    assert errors["resolution"].above[0] == pytest.approx(expected) and errors["resolution"].entries[0] == 25
    scatter = response.mean(axis=1).std(), (spread / response.mean(axis=1)).std()
    assert scatter[0] == pytest.approx(0.2 / 5, rel=0.05)
    ratio = 0.2 / 0.9
    assert scatter[1] == pytest.approx(ratio * math.sqrt(1 / 48 + ratio**2 / 25), rel=0.08)
    table.response[1:] = np.nan
    one = curve_errors(table, [0.0, 2.0])
    assert one["response"].entries[0] == 1 and math.isnan(one["response"].above[0])
    assert math.isnan(one["resolution"].above[0])
    with pytest.raises(ValueError, match="against must be energy or nearest"):
        curve_errors(table, [0.0, 1.0], against="eta")
