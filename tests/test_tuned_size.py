# SPDX-License-Identifier: Apache-2.0
"""The sizes that tools/benchmark.py tune measures: their maps, their candidates, and the check of a result."""

import pytest
import torch

from pcperc import ops
from pcperc.benchmark.tuned_size import (
    TunedSize,
    best_of,
    error_limit,
    forward_candidates,
    make_map,
    weight_grad_candidates,
)
from tests.ops.clouds import random_coords
from tests.test_selection_file import FORWARD, WEIGHT_GRAD
from tests.tolerances import tolerances


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("terms", [1, 1728, 500_000])
def test_a_result_is_as_right_as_the_operator_tests_ask(dtype, terms):
    assert error_limit(dtype, terms) == pytest.approx(tolerances(dtype, terms)["rtol"])


def test_candidates_are_of_one_kind_and_suit_the_sizes():
    found = forward_candidates((102, 8), FORWARD, 132)
    assert found[0] == (102, 8) and len(set(found)) == len(found)
    assert {kernel for kernel, _ in found} == {100, 101, 102, 103, 106, 107}
    assert {blocks for kernel, blocks in found if kernel == 102} == {1, 2, 4, 8}
    assert {blocks for kernel, blocks in found if kernel in (101, 103, 107)} == {1}
    many = forward_candidates((103, 1), FORWARD._replace(rows=500_000), 132)
    assert {blocks for _, blocks in many} == {1}
    assert forward_candidates((1, 1), FORWARD, 132) == [(1, 1), (0, 1), (2, 1), (3, 1)]
    assert forward_candidates((10, 1), FORWARD._replace(in_channels=16, out_channels=16), 132) == [(10, 1)]
    half = weight_grad_candidates((1, 0), WEIGHT_GRAD._replace(dtype="float16"), has_warpgroups=True)
    assert half == [(1, 0), (0, 0), (2, 0), (4, 0), (100, 0)]
    for sizes, has_warpgroups in ((WEIGHT_GRAD, True), (WEIGHT_GRAD._replace(dtype="float16"), False)):
        assert weight_grad_candidates((1, 0), sizes, has_warpgroups=has_warpgroups) == half[:-1]


def test_the_fastest_wins_by_more_than_noise():
    times = {(0, 1): 1.0, (1, 1): 0.995, (2, 1): 2.0}
    assert best_of(times, (0, 1)) == (0, 1)
    assert best_of(times, (2, 1)) == (1, 1)
    assert best_of(times, (3, 1)) == (1, 1)


class OnCpu(TunedSize):
    """A size with one kernel, on the CPU, with ``wrong`` added to one value of what it returns."""

    chosen, wrong = (0, 1), 0.0

    def run(self, candidate, turn=0):
        feats, other, table = self.feats[turn].float(), self.other.float(), self.map.table
        if self.sizes.pass_name == "forward":
            found = ops.sparse_conv(feats, other, table)
            found[self.map.ordered[1][-1], -1] += self.wrong
            return found.to(self.dtype)
        found = torch.stack([feats[rows[rows >= 0]].T @ other[rows >= 0] for rows in table])
        found[-1, -1, -1] += self.wrong
        return found


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "tf32"])
@pytest.mark.parametrize("pass_name", ["forward", "weight_grad"])
def test_one_wrong_value_is_found(pass_name, dtype):
    problem = OnCpu(make_map("subm_k3", random_coords(4000)), pass_name, dtype, (32, 24))
    assert problem.error((0, 1)) < problem.limit
    problem.wrong = problem.expected.std().item()
    assert not problem.error((0, 1)) < problem.limit
    problem.wrong = float("nan")
    assert not problem.error((0, 1)) < problem.limit


def test_maps_are_those_of_layers():
    coords = random_coords(300)
    down, inverse = make_map("down_k3s2", coords), make_map("inverse_k3s2", coords)
    assert down.num_inputs == inverse.table.shape[1] == len(coords)
    assert inverse.num_inputs == down.table.shape[1] != len(coords)
    assert torch.equal(down.tap_pairs, inverse.tap_pairs)
    table, order = down.ordered
    assert torch.equal(table, down.table[:, order.long()])
