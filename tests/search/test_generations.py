# SPDX-License-Identifier: Apache-2.0
"""The generations of a search on a made-up landscape: who lives on, draws of its own, going on after a stop."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pcperc.models.spvnas import SearchSpace, Subnet
from pcperc.search import SearchOptions
from pcperc.search import run as searching
from pcperc.search.run import Search
from pcperc.search.state import Member, SearchState
from tests.search.test_evolution import ranks_by_peeling

SPACE = SearchSpace((16,) + (32, 48) * 4, (16,) * 9)
LIMIT = 0.7


class Landscape:
    """Stands for the subnets of a trained network: cost and score follow from their numbers, at once."""

    is_test_split, split, settings, first_cost = False, "val", {}, "gmacs"
    simulated, limits_text, supernet = "", "", None
    net = SimpleNamespace(space=SPACE, extract=lambda subnet: None)
    scores = SimpleNamespace(calibrate=lambda net: net)

    def __init__(self, *, stop_after: int = 10**9):
        self.left = stop_after

    def cost(self, subnet: Subnet) -> float:
        """In [0, 1], no two alike."""
        numbers = [*subnet.widths, *subnet.transitions, *(sum(inner) for inner in subnet.inner_widths)]
        return float(np.dot(numbers, np.linspace(1.0, 1.3, 25))) / 1500

    def is_allowed(self, subnet: Subnet) -> bool:
        return self.cost(subnet) <= LIMIT

    def scored(self, subnet: Subnet, generation: int) -> Member:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        score = np.dot(subnet.widths, np.cos(np.arange(9))) / 300 + self.cost(subnet) ** 0.5
        return Member(subnet, generation, float(score), self.cost(subnet), -self.cost(subnet), latency_ms=1.0)


def best_by_loops(costs: list[float], scores: list[float], size: int) -> list[int]:
    """NSGA-II: by rank, then by the gap between the two neighbours of the same rank, which is infinite at the ends."""
    ranks = ranks_by_peeling(costs, scores)
    gaps = [0.0] * len(ranks)
    for rank in set(ranks):
        for values in (costs, scores):
            order = sorted((i for i in range(len(ranks)) if ranks[i] == rank), key=lambda i: values[i])
            spread = values[order[-1]] - values[order[0]]
            for place, i in enumerate(order):
                if place in (0, len(order) - 1):
                    gaps[i] = float("inf")
                else:
                    gaps[i] += (values[order[place + 1]] - values[order[place - 1]]) / spread
    return sorted(range(len(ranks)), key=lambda i: (ranks[i], -gaps[i], i))[:size]


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """Run a search until it is done or stopped; returns the state, what was saved after each generation, the
    generators and the front."""
    for name in ("draw_front", "write_subnet"):
        monkeypatch.setattr(searching, name, lambda *_, **__: None)

    def run(name: str = "one", *, stop_after: int = 10**9, **options):
        saved, generators, front = [], [], None
        save, draw = SearchState.save, searching.next_subnets

        def next_subnets(parents, space, rng, **options):
            generators.append(str(rng.bit_generator.state))
            return draw(parents, space, rng, **options)

        with monkeypatch.context() as patch:
            patch.setattr(SearchState, "save", lambda s, path: saved.append(list(s.population)) or save(s, path))
            patch.setattr(searching, "next_subnets", next_subnets)
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            options = SearchOptions(Path("none.py"), max_gmacs=LIMIT, population=8, generations=5, **options)
            search = Search(options, Landscape(stop_after=stop_after), folder)
            try:
                front = search.run()
            except KeyboardInterrupt:
                pass
        return search.state, saved, generators, front

    return run


def test_the_best_of_parents_and_children_live_on(searched):
    state, saved, _, front = searched()
    assert state.generation == 6 == len(saved) and len(state.members) == 48
    assert len({member.subnet for member in state.members}) == 48
    assert all(member.gmacs <= LIMIT for member in state.members)
    population: list[int] = []
    for generation, found in enumerate(saved):
        living = population + [i for i, member in enumerate(state.members) if member.generation == generation]
        assert len(living) == len(population) + 8
        costs, scores = ([getattr(state.members[i], key) for i in living] for key in ("gmacs", "miou"))
        population = [living[i] for i in best_by_loops(costs, scores, 8)]
        assert found == population

    def beats(one: Member, other: Member) -> bool:  # no two are alike
        return one.gmacs <= other.gmacs and one.miou >= other.miou and one is not other

    unbeaten = [member for member in state.members if not any(beats(other, member) for other in state.members)]
    assert front == sorted(unbeaten, key=lambda member: member.gmacs) and len(front) > 3


def test_each_generation_and_each_seed_has_draws_of_its_own(searched):
    _, _, one, _ = searched("one", seed=1)
    _, _, other, _ = searched("other", seed=2)
    assert len(set(one) | set(other)) == 12


@pytest.mark.parametrize("stop_after", [3, 8, 29])
def test_one_that_was_stopped_anywhere_ends_as_another(searched, tmp_path, stop_after):
    _, _, _, expected = searched("whole")
    assert searched("stopped", stop_after=stop_after)[3] is None
    state, _, _, front = searched("stopped", resume=True)
    assert state.generation == 6 and front == expected
    assert (tmp_path / "stopped/state.json").read_bytes() == (tmp_path / "whole/state.json").read_bytes()
