# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcperc import ops
from tests import oracles
from tests.op_contract import Mistake, OpContract, Sample
from tests.ops.clouds import CLOUDS, coords_of, random_coords

LIMIT = 131072


class TestUniqueCoords(OpContract):
    dtypes = (torch.float32,)

    @staticmethod
    def samples():
        clouds = CLOUDS | {"repeated": torch.cat([random_coords(80), random_coords(80, seed=1), random_coords(80)])}
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
                r"coords must be \(N, 4\) int32.*got \(2, 4\) int64",
            ),
            Mistake(
                "shape", call(torch.zeros(2, 3).int()), ValueError, r"coords must be \(N, 4\) int32.*got \(2, 3\) int32"
            ),
            Mistake("too_high", call(coords_of((0, 1, 1, 1), (0, LIMIT, 0, 0))), ValueError, r"row 1\b.*131072"),
            Mistake("too_low", call(coords_of((0, 0, 0, -LIMIT - 1))), ValueError, r"row 0\b.*-131073"),
            Mistake("batch", call(coords_of((-1, 0, 0, 0))), ValueError, r"row 0\b"),
            Mistake("batch_high", call(coords_of((0, 0, 0, 0), (1024, 0, 0, 0))), ValueError, r"row 1\b.*1024"),
        ]


class TestDownsampleCoords(OpContract):
    dtypes = (torch.float32,)

    @staticmethod
    def samples():
        inside = {name: CLOUDS[name] for name in ("empty", "one", "random", "gap_in_batch")}
        positive = random_coords(120, low=0, high=6)
        geometries = {
            "k2s2": dict(kernel_size=2, stride=2),
            "k3s2p1": dict(kernel_size=3, stride=2, padding=1),
            "k3s1d2": dict(kernel_size=3, stride=1, padding=2, dilation=2),
            "k113s112": dict(kernel_size=(1, 1, 3), stride=(1, 1, 2)),
            "k3s5": dict(kernel_size=3, stride=5),
        }
        bounded = [
            Sample(f"bounded_{name}", {"coords": positive}, options | {"spatial_shape": (7, 7, 7)})
            for name, options in geometries.items()
        ]
        # x leaves the range of a coordinate, but y makes no output at all
        edge = Sample(
            "edge",
            {"coords": coords_of((0, LIMIT - 1, 1, 0))},
            dict(kernel_size=1, stride=(1, 2, 1), padding=(1, 0, 0)),
        )
        return [*bounded, edge] + [
            Sample(f"{cloud}_{name}", {"coords": coords}, options)
            for cloud, coords in inside.items()
            for name, options in geometries.items()
        ]

    @staticmethod
    def call(sample):
        return (ops.downsample_coords(**sample.tensors, **sample.options),)

    @staticmethod
    def oracle(sample):
        defaults = dict(kernel_size=1, stride=1, padding=0, dilation=1, spatial_shape=None)
        options = defaults | sample.options
        triples = {k: (v,) * 3 if isinstance(v, int) else v for k, v in options.items()}
        return (oracles.downsample_coords(sample.tensors["coords"], **triples),)

    @staticmethod
    def overloads(sample):
        return [
            (
                torch.ops.pcperc.downsample_coords.default,
                (sample.tensors["coords"], [3] * 3, [2] * 3, [1] * 3, [1] * 3, []),
            )
        ]

    @staticmethod
    def mistakes():
        def call(coords=CLOUDS["one"], **options):
            return lambda: ops.downsample_coords(coords, **{"kernel_size": 2, "stride": 2} | options)

        return [
            Mistake("stride", call(stride=0), ValueError, "stride must be .* >= 1, got 0"),
            Mistake("kernel", call(kernel_size=(3, 3)), ValueError, r"kernel_size must be .*got \(3, 3\)"),
            Mistake("float", call(padding=0.5), TypeError, "padding"),
            Mistake("range", call(coords_of((0, LIMIT, 0, 0))), ValueError, r"row 0\b"),
            Mistake(
                "output",
                call(coords_of((0, 0, 0, 0), (0, LIMIT - 1, 0, 0)), kernel_size=1, stride=1, padding=(1, 0, 0)),
                ValueError,
                r"row 1 .* makes an output coordinate outside",
            ),
        ]


@given(st.lists(st.tuples(st.integers(0, 1022), *[st.integers(-LIMIT, LIMIT - 1)] * 3), max_size=30))
def test_any_coords_sort_lexicographically(rows):
    coords = coords_of(*rows)
    result = ops.unique_coords(coords)
    expected = oracles.unique_coords(coords.numpy())
    for got, wanted in zip(result, expected, strict=True):
        assert np.array_equal(got.numpy(), wanted)
    assert torch.equal(result.coords[result.inverse], coords)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_same_rows_for_every_number_of_threads(threads):
    coords = random_coords(20_000, low=-40, high=40)
    before = torch.get_num_threads()
    expected = ops.unique_coords(coords)
    torch.set_num_threads(threads)
    try:
        for got, wanted in zip(ops.unique_coords(coords), expected, strict=True):
            assert torch.equal(got, wanted)
    finally:
        torch.set_num_threads(before)
