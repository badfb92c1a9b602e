# SPDX-License-Identifier: Apache-2.0
import torch

from pcperc import ops
from tests import oracles
from tests.op_contract import Mistake, OpContract, Sample
from tests.ops.clouds import CLOUDS, coords_of, limit_coords, random_coords

LIMIT = 131072


class TestUniqueCoords(OpContract):
    dtypes = (torch.float32,)

    @staticmethod
    def samples():
        clouds = CLOUDS | {"repeated": torch.cat([random_coords(80), random_coords(80, seed=1), random_coords(80)])}
        for dims in (1, 2, 4):
            clouds[f"empty_{dims}d"] = coords_of(dims=dims)
            clouds[f"repeated_{dims}d"] = torch.cat([random_coords(60, dims=dims, seed=seed) for seed in range(3)])
            clouds[f"limits_{dims}d"] = limit_coords(dims)
        return [Sample(name, {"coords": coords}) for name, coords in clouds.items()]

    @staticmethod
    def call(sample):
        return ops.unique_coords(**sample.tensors)

    @staticmethod
    def oracle(sample):
        return oracles.unique_coords(sample.tensors["coords"].numpy())

    @staticmethod
    def overloads(sample):
        return [(torch.ops.pcperc.unique_coords.default, (sample.tensors["coords"],))]

    @staticmethod
    def mistakes():
        def call(coords):
            return lambda: ops.unique_coords(coords)

        return [
            Mistake("no_tensor", call([[0, 0, 0, 0]]), TypeError, "unique_coords: coords must be a tensor, got list"),
            Mistake(
                "dtype",
                call(torch.zeros(2, 4).long()),
                ValueError,
                r"coords must be \(N, 1 \+ D\) int32.*got \(2, 4\) int64",
            ),
            Mistake("columns_1", call(torch.zeros(2, 1).int()), ValueError, r"D from 1 to 4, got \(2, 1\) int32"),
            Mistake("columns_6", call(torch.zeros(2, 6).int()), ValueError, r"D from 1 to 4, got \(2, 6\) int32"),
            Mistake("too_high", call(coords_of((0, 1, 1, 1), (0, LIMIT, 0, 0))), ValueError, r"row 1\b.*131072"),
            Mistake("too_low", call(coords_of((0, 0, 0, -LIMIT - 1))), ValueError, r"row 0\b.*-131073"),
            Mistake("batch", call(coords_of((-2, 0, 0, 0))), ValueError, r"row 0\b"),
            Mistake(
                "capacity", lambda: ops.unique_coords(coords_of(), capacity=0), ValueError, "capacity must be .* > 0"
            ),
            Mistake("batch_high", call(coords_of((0, 0, 0, 0), (1024, 0, 0, 0))), ValueError, r"row 1\b.*1024"),
        ]
