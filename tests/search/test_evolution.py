# SPDX-License-Identifier: Apache-2.0
"""Ranks, survivors and children of subnets, against definitions written as loops."""

import numpy as np
import pytest

from pcperc.models.spvnas import SearchSpace
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


def test_survivors_keep_the_front_and_its_ends():
    costs, scores = [1, 2, 2.1, 5, 3, 9], [0.1, 0.3, 0.31, 0.5, 0.2, 0.4]
    assert pareto_ranks(costs, scores).tolist() == [0, 0, 0, 0, 1, 1]
    assert set(survivors(costs, scores, 2)) == {0, 3}
    assert set(survivors(costs, scores, 4)) == {0, 1, 2, 3} and survivors(costs, scores, 9)[:4] != [4, 5]
    apart = crowding(costs, scores, pareto_ranks(costs, scores))
    assert np.isinf(apart[[0, 3]]).all() and apart[1] == pytest.approx(1.1 / 4 + 0.21 / 0.4)


def test_children_are_in_the_space_and_of_their_parents():
    rng = np.random.default_rng(0)
    largest, smallest = SPACE.largest(), SPACE.smallest()
    for _ in range(50):
        child = crossed(largest, smallest, rng)
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
    assert next_subnets([], SPACE, np.random.default_rng(0), count=2, known=set(), is_allowed=lambda s: False) == []
