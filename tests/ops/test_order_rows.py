# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from pcperc import ops
from tests import oracles_topology
from tests.op_contract import Mistake, OpContract, Sample
from tests.ops.clouds import random_coords


def random_table(taps, rows, *, density, seed=0):
    """(taps, rows) int32 with -1 where there is no neighbour; later taps have more of them."""
    generator = torch.Generator().manual_seed(seed)
    chance = density * torch.linspace(0.2, 1.8, taps)[:, None]
    numbers = torch.randint(rows + 1, (taps, rows), generator=generator).int()
    return torch.where(torch.rand(taps, rows, generator=generator) < chance, numbers, -1)


class TestOrderRows(OpContract):
    dtypes = (torch.float32,)

    @staticmethod
    def samples():
        # Words of taps: less than one, one of 32 and of 64 bits, one tap more, several.
        shapes = [
            (1, 40),
            (8, 100),
            (27, 300),
            (32, 90),
            (33, 90),
            (64, 90),
            (65, 90),
            (130, 70),
            (27, 1),
            (27, 0),
            (0, 5),
        ]
        found = [
            Sample(f"{taps}x{rows}", {"neighbors": random_table(taps, rows, density=0.4 if taps < 9 else 0.08)})
            for taps, rows in shapes
        ]
        coords = random_coords(200)
        table = ops.build_kernel_map(coords, coords, kernel_size=3, padding=1)
        same = torch.zeros(9, 50).int()
        return [*found, Sample("submanifold", {"neighbors": table}), Sample("all_the_same", {"neighbors": same})]

    @staticmethod
    def call(sample):
        return ops.order_rows(**sample.tensors)

    @staticmethod
    def oracle(sample):
        return oracles_topology.order_rows(sample.tensors["neighbors"].numpy())

    @staticmethod
    def overloads(sample):
        return [(torch.ops.pcperc.order_rows.default, tuple(sample.tensors.values()))]

    @staticmethod
    def mistakes():
        return [
            Mistake("no_tensor", lambda: ops.order_rows([[0]]), TypeError, "neighbors must be a tensor, got list"),
            Mistake("dtype", lambda: ops.order_rows(torch.zeros(2, 2)), ValueError, r"must be \(K, M\) int32, got"),
            Mistake("shape", lambda: ops.order_rows(torch.zeros(2).int()), ValueError, r"must be \(K, M\) int32, got"),
        ]


def test_an_order_by_hand():
    """Tap 2 is the rarest, then 0, then 1. Codes 110, 001, 011, 000, 011 are at places 4, 1, 2, 0, 2."""
    taken = np.array([[1, 0, 1, 0, 1], [0, 1, 1, 0, 1], [1, 0, 0, 0, 0]], bool)
    neighbors = torch.from_numpy(np.where(taken, 7, -1)).int()
    ordered, row_order = ops.order_rows(neighbors)
    assert row_order.tolist() == [0, 2, 4, 1, 3]
    assert torch.equal(ordered, neighbors[:, row_order.long()])


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [70_000, 300_001])
def test_large_tables_on_both_devices(rows):
    table = random_table(27, rows, density=0.25)
    for got, wanted in zip(ops.order_rows(table.cuda()), ops.order_rows(table), strict=True):
        assert torch.equal(got.cpu(), wanted)
