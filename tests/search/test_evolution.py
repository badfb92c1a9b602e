# SPDX-License-Identifier: Apache-2.0
"""Ranks, survivors and children of subnets, against definitions written as loops."""

import numpy as np
import pytest

from pcperc.models.spvnas import SearchSpace, Subnet
from pcperc.search import evolution
from pcperc.search.evolution import (
    crossed,
    crowding,
    mutated,
    next_subnets,
    pareto_ranks,
    sample_sized,
    survivors,
)

SPACE = SearchSpace((16,) + (32, 48) * 4, (16,) * 9, depths=(1, 2, 3))


def ranks_by_peeling(costs, scores):
    left, ranks, rank = set(range(len(costs))), [None] * len(costs), 0
    while left:
        front = {
            i
            for i in left
            if not any(
                costs[j] <= costs[i] and scores[j] >= scores[i] and (costs[j], scores[j]) != (costs[i], scores[i])
                for j in left
            )
        }
        for i in front:
            ranks[i] = rank
        left, rank = left - front, rank + 1
    return ranks


@pytest.mark.parametrize("seed", range(3))
def test_ranks(seed):
    rng = np.random.default_rng(seed)
    costs, scores = rng.integers(0, 9, 40), rng.integers(0, 9, 40)  # with ties
    assert pareto_ranks(costs, scores).tolist() == ranks_by_peeling(costs.tolist(), scores.tolist())
    assert pareto_ranks([], []).tolist() == []


def numbers(subnet: Subnet) -> list:
    """What is inherited each by itself."""
    return [*subnet.widths, *subnet.transitions, *subnet.inner_widths]


def bred(parents: list[Subnet], monkeypatch, *, count: int = 2000) -> list[Subnet]:
    """The first children of a generation, all of which are refused."""
    seen: list[Subnet] = []
    monkeypatch.setattr(evolution, "MAX_DRAWS", count)
    rng = np.random.default_rng(0)
    next_subnets(parents, SPACE, rng, count=1, known=set(), is_allowed=lambda subnet: seen.append(subnet))
    assert len(seen) == count
    return seen


def test_the_better_of_two_drawn_is_a_parent_and_half_of_the_children_have_two(monkeypatch):
    rng = np.random.default_rng(0)
    parents = [SPACE.largest(), SPACE.sample(rng), SPACE.smallest()]
    monkeypatch.setattr(evolution, "mutated", lambda subnet, *_: subnet)
    children = bred(parents, monkeypatch)
    shares = np.array([children.count(parent) for parent in parents]) / len(children)
    drawn = np.array([5, 3, 1]) / 9  # the place of the better one of two
    # Half have one parent; of the others some have the same one twice.
    np.testing.assert_allclose(shares, 0.5 * drawn + 0.5 * drawn**2, atol=0.04)


def test_a_tenth_of_the_numbers_is_drawn_anew(monkeypatch):
    parent = SPACE.largest()
    children = bred([parent], monkeypatch)
    choices = [*SPACE.widths, *SPACE.transitions]
    for place, values in enumerate(choices):
        drawn = [numbers(child)[place] for child in children]
        for value in values:
            expected = 0.1 / len(values) + 0.9 * (value == values[-1])
            assert drawn.count(value) / len(children) == pytest.approx(expected, abs=0.03)
    depths = [len(child.inner_widths[3]) for child in children]
    assert depths.count(3) / len(children) == pytest.approx(0.9 + 0.1 / 3, abs=0.03)


def test_a_stage_grows(monkeypatch):
    """From one block to two or three, whose widths are drawn."""
    children = bred([SPACE.smallest()], monkeypatch)
    grown = [child.inner_widths[1] for child in children if len(child.inner_widths[1]) > 1]
    assert len(grown) / len(children) == pytest.approx(0.1 * 2 / 3, abs=0.03)
    assert {width for blocks in grown for width in blocks[1:]} == set(SPACE.inner_widths[1])


def test_survivors_keep_the_front_and_its_ends():
    costs, scores = [1, 2, 2.1, 5, 3, 9], [0.1, 0.3, 0.31, 0.5, 0.2, 0.4]
    assert pareto_ranks(costs, scores).tolist() == [0, 0, 0, 0, 1, 1]
    assert set(survivors(costs, scores, 2)) == {0, 3}
    assert set(survivors(costs, scores, 4)) == {0, 1, 2, 3} and survivors(costs, scores, 9)[:4] != [4, 5]
    apart = crowding(costs, scores, pareto_ranks(costs, scores))
    assert np.isinf(apart[[0, 3, 4, 5]]).all() and apart[1] == pytest.approx(1.1 / 4 + 0.21 / 0.4)


def test_children_are_in_the_space_and_of_their_parents():
    rng = np.random.default_rng(0)
    largest, smallest = SPACE.largest(), SPACE.smallest()
    children = [crossed(largest, smallest, rng) for _ in range(200)]
    for place, (one, other) in enumerate(zip(numbers(largest), numbers(smallest), strict=True)):
        shares = [sum(numbers(child)[place] == own for child in children) / 200 for own in (one, other)]
        assert one == other or min(shares) > 0.35
    for child in children[:50]:
        for name in ("widths", "transitions", "inner_widths"):
            values = zip(getattr(child, name), getattr(largest, name), getattr(smallest, name), strict=True)
            assert all(own in (a, b) for own, a, b in values)
        for subnet in (child, mutated(child, SPACE, rng), sample_sized(SPACE, rng)):
            SPACE.check(subnet)
    assert mutated(largest, SPACE, rng, chance=0.0) == largest
    assert len({mutated(largest, SPACE, rng, chance=1.0) for _ in range(10)}) == 10


def test_drawn_sizes_reach_both_ends():
    rng = np.random.default_rng(0)
    sizes = [sum(sample_sized(SPACE, rng).widths) for _ in range(300)]
    low, high = sum(SPACE.smallest().widths), sum(SPACE.largest().widths)
    assert min(sizes) < low + 0.1 * (high - low) and max(sizes) > low + 0.75 * (high - low)
    # All sizes come equally often, where numbers drawn each by itself would all be about half of their largest.
    choices = [*SPACE.widths[1:], *SPACE.transitions[4:]]
    shares = []
    for _ in range(400):
        subnet = sample_sized(SPACE, rng)
        found = zip([*subnet.widths[1:], *subnet.transitions[4:]], choices, strict=True)
        shares.append(np.mean([values.index(value) / (len(values) - 1) for value, values in found]))
    counts, _ = np.histogram(shares, bins=(0, 0.25, 0.5, 0.75, 1.01))
    assert (counts > 60).all(), counts


def test_new_subnets_keep_the_limit_and_are_new():
    def is_small(subnet):
        return sum(subnet.widths) < 230

    def draw(parents, known, count=8):
        rng = np.random.default_rng(1)
        return next_subnets(parents, SPACE, rng, count=count, known=known, is_allowed=is_small)

    first = draw([], set())
    assert len(set(first)) == 8 and all(map(is_small, first)) and first == draw([], set())
    second = draw(first, set(first))
    assert len(set(second) | set(first)) == 16 and all(map(is_small, second))
    # The same draws again give others where the first ones are known.
    assert not set(draw([], set(first))) & set(first)
    narrow = SearchSpace((16,) * 9, (16,) * 9)  # 2^8 subnets: many draws come twice
    rng = np.random.default_rng(0)
    few = next_subnets([narrow.largest()], narrow, rng, count=40, known=set(), is_allowed=lambda s: True)
    assert len(set(few)) == len(few) == 40
    assert next_subnets([], SPACE, np.random.default_rng(0), count=2, known=set(), is_allowed=lambda s: False) == []
