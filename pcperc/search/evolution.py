# SPDX-License-Identifier: Apache-2.0
"""Evolution of subnets, and which of them nothing else beats. Pure functions: equal arguments, equal results.

Source: Deb, Pratap, Agarwal and Meyarivan, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE
Transactions on Evolutionary Computation 2002, for rank, crowding and selection; parents of a population of 50 that are
crossed and mutated as in Tang et al., "Searching Efficient 3D Architectures with Sparse Point-Voxel Convolution", ECCV
2020. That search keeps the best scores under one limit; keeping the front instead gives an answer for every smaller
limit too.
"""

from collections.abc import Callable, Sequence

import numpy as np

from pcperc.models.spvnas import SearchSpace, Subnet

MAX_DRAWS = 300  # for one subnet within the limits
MUTATION = 0.1  # chance that a number is drawn anew, as published
CROSSING = 0.5  # chance that a child has a second parent


def pareto_ranks(costs: Sequence[float], scores: Sequence[float]) -> np.ndarray:
    """Return (N,) int64: 0 for what nothing beats, 1 for what only these beat, and so on.

    One beats another where it costs no more, scores no less and is better in one of the two.
    """
    costs, scores = np.asarray(costs, np.float64), np.asarray(scores, np.float64)
    no_worse = (costs[:, None] <= costs) & (scores[:, None] >= scores)
    beats = no_worse & ((costs[:, None] < costs) | (scores[:, None] > scores))
    ranks = np.full(len(costs), -1, np.int64)
    rank = 0
    while (ranks < 0).any():
        left = ranks < 0
        ranks[left & ~(beats & left[:, None]).any(0)] = rank
        rank += 1
    return ranks


def crowding(costs: Sequence[float], scores: Sequence[float], ranks: np.ndarray) -> np.ndarray:
    """Return (N,) float64: how far apart the two neighbours in the same rank are, infinite at its ends."""
    distance = np.zeros(len(ranks))
    for rank in np.unique(ranks):
        members = np.flatnonzero(ranks == rank)
        for values in (np.asarray(costs, np.float64)[members], np.asarray(scores, np.float64)[members]):
            order = np.argsort(values, kind="stable")
            spread = values[order[-1]] - values[order[0]]
            distance[members[order[[0, -1]]]] = np.inf
            if spread > 0:
                distance[members[order[1:-1]]] += (values[order[2:]] - values[order[:-2]]) / spread
    return distance


def survivors(costs: Sequence[float], scores: Sequence[float], size: int) -> list[int]:
    """Return the indices of the ``size`` best, by rank, then by crowding, then by age; the best first."""
    ranks = pareto_ranks(costs, scores)
    apart = crowding(costs, scores, ranks)
    return sorted(range(len(ranks)), key=lambda i: (ranks[i], -apart[i], i))[:size]


def sample_sized(space: SearchSpace, rng: np.random.Generator) -> Subnet:
    """Draw how large the subnet is, then each number around there.

    Numbers drawn each by itself make subnets of about one size (``space.sample``), hardly ever one within a tight
    limit.
    """
    share = rng.uniform()

    def draw(choices: Sequence[int]) -> int:
        return int(choices[rng.binomial(len(choices) - 1, share)])

    return Subnet(
        tuple(map(draw, space.widths)),
        tuple(map(draw, space.transitions)),
        tuple(tuple(draw(inner) for _ in range(draw(space.depths))) for inner in space.inner_widths),
    )


def crossed(one: Subnet, other: Subnet, rng: np.random.Generator) -> Subnet:
    """Take each number, and the blocks of each stage together, from one of the two by chance."""

    def choose(ours: tuple, theirs: tuple) -> tuple:
        return tuple(a if rng.integers(2) else b for a, b in zip(ours, theirs, strict=True))

    return Subnet(
        choose(one.widths, other.widths),
        choose(one.transitions, other.transitions),
        choose(one.inner_widths, other.inner_widths),
    )


def mutated(subnet: Subnet, space: SearchSpace, rng: np.random.Generator, chance: float = MUTATION) -> Subnet:
    """Draw each number anew with this chance; a stage that grows gets blocks by chance."""

    def change(value: int, choices: Sequence[int]) -> int:
        return int(rng.choice(choices)) if rng.uniform() < chance else value

    def change_blocks(blocks: tuple[int, ...], inner: Sequence[int]) -> tuple[int, ...]:
        depth = change(len(blocks), space.depths)
        kept = [change(value, inner) for value in blocks[:depth]]
        return tuple(kept + [int(rng.choice(inner)) for _ in range(depth - len(kept))])

    return Subnet(
        tuple(map(change, subnet.widths, space.widths)),
        tuple(map(change, subnet.transitions, space.transitions)),
        tuple(map(change_blocks, subnet.inner_widths, space.inner_widths)),
    )


def next_subnets(
    parents: Sequence[Subnet],
    space: SearchSpace,
    rng: np.random.Generator,
    *,
    count: int,
    known: set[Subnet],
    is_allowed: Callable[[Subnet], bool],
) -> list[Subnet]:
    """Return new subnets within the limits: children of ``parents``, or drawn ones where there are none.

    Args:
        parents: the best first; of two drawn ones the better one becomes a parent.
        known: subnets that are not wanted again.
        is_allowed: whether one is within the limits.
    Returns:
        At most ``count``; fewer where `MAX_DRAWS` draws found no other one.
    """
    found: list[Subnet] = []

    def parent() -> Subnet:
        return parents[int(rng.integers(len(parents), size=2).min())]

    for _ in range(count):
        for _ in range(MAX_DRAWS):
            if parents:
                child = crossed(parent(), parent(), rng) if rng.uniform() < CROSSING else parent()
                child = mutated(child, space, rng)
            else:
                child = sample_sized(space, rng)
            if child not in known and child not in found and is_allowed(child):
                found.append(child)
                break
        else:
            break
    return found
