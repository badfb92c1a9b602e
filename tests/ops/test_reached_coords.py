# SPDX-License-Identifier: Apache-2.0
"""downsample_coords and upsample_coords: the coordinates that a convolution reaches in either direction."""

import torch

from pcperc import ops
from tests import oracles, oracles_topology
from tests.op_contract import Mistake, OpContract, Sample
from tests.ops.clouds import CLOUDS, KEY_LIMITS, coords_of, random_coords

LIMIT = 131072
GEOMETRIES = {
    "k2s2": dict(kernel_size=2, stride=2),
    "k3s2p1": dict(kernel_size=3, stride=2, padding=1),
    "k3s1d2": dict(kernel_size=3, stride=1, padding=2, dilation=2),
    "k113s112": dict(kernel_size=(1, 1, 3), stride=(1, 1, 2)),
    "k3s5": dict(kernel_size=3, stride=5),
    "k4s6d4": dict(kernel_size=4, stride=6, dilation=4),
}


def every_axis(options, dims):
    """The options with one value for each axis, and the defaults."""
    options = dict(kernel_size=1, stride=1, padding=0, dilation=1) | options
    return {key: (value,) * dims if isinstance(value, int) else value for key, value in options.items()}


class ReachedCoordsContract(OpContract):
    """What both directions are tested for; ``name`` is the operator and ``shape`` its argument for borders."""

    dtypes = (torch.float32,)
    name: str
    shape: str

    @classmethod
    def samples(cls):
        positive = random_coords(120, low=0, high=6)
        bounded = [
            Sample(f"bounded_{name}", {"coords": positive}, options | {cls.shape: (7, 7, 5)})
            for name, options in GEOMETRIES.items()
        ]
        unbounded = [Sample(f"random_{name}", {"coords": CLOUDS["random"]}, GEOMETRIES[name]) for name in GEOMETRIES]
        small = [
            Sample(name, {"coords": CLOUDS[name]}, GEOMETRIES["k2s2"]) for name in ("empty", "one", "gap_in_batch")
        ]
        other_dims = [
            Sample(f"{name}_{dims}d", {"coords": random_coords(40, dims=dims)}, GEOMETRIES[name])
            for dims, name in ((1, "k3s5"), (2, "k2s2"), (4, "k3s2p1"))
        ]
        repeated = Sample("repeated", {"coords": torch.cat([positive, positive[:20]])}, GEOMETRIES["k3s2p1"])
        return [*bounded, *unbounded, *small, *other_dims, repeated]

    @classmethod
    def call(cls, sample):
        return (getattr(ops, cls.name)(**sample.tensors, **sample.options),)

    @classmethod
    def oracle(cls, sample):
        coords = sample.tensors["coords"]
        function = getattr(oracles, cls.name, None) or getattr(oracles_topology, cls.name)
        return (function(coords, **every_axis(sample.options, coords.shape[1] - 1)),)

    @classmethod
    def overloads(cls, sample):
        coords = sample.tensors["coords"]
        options = every_axis(sample.options, coords.shape[1] - 1)
        shape = options.pop(cls.shape, ())
        if shape and cls.shape == "spatial_shape":
            shape = oracles.output_shape(shape, **options)
        return [(getattr(torch.ops.pcperc, cls.name).default, (coords, *options.values(), shape))]

    @classmethod
    def call_of(cls, coords=CLOUDS["one"], **options):
        return lambda: getattr(ops, cls.name)(coords, **{"kernel_size": 2, "stride": 2} | options)

    @classmethod
    def mistakes(cls):
        call = cls.call_of
        mistakes = [
            Mistake("stride", call(stride=0), ValueError, "stride must be .* >= 1 .*, got 0"),
            Mistake("kernel", call(kernel_size=(3, 3)), ValueError, r"kernel_size must be .* 3 of them, got \(3, 3\)"),
            Mistake("taps", call(kernel_size=17), ValueError, "kernel_size must make at most 4096 taps, got 4913"),
            Mistake("dilation", call(dilation=1 << 17), ValueError, "dilation must be in .*, got 131072"),
            Mistake("float", call(padding=0.5), TypeError, "padding must be .*, got 0.5"),
            Mistake("shape", call(**{cls.shape: (3, 3)}), ValueError, rf"{cls.shape} must be .*, got \(3, 3\)"),
            Mistake("no_size", call(**{cls.shape: 0}), ValueError, rf"{cls.shape} must be .* >= 1 .*, got 0"),
            Mistake("columns", call(torch.zeros(1, 6).int()), ValueError, "D from 1 to 4"),
        ]
        for dims, (batch, low, high) in KEY_LIMITS.items():
            row = coords_of((0, *[0] * dims), (0, *[0] * (dims - 1), high + 1), dims=dims)
            text = rf"coords row 1 = .*{high + 1}\] is out of range.* \[0, {batch}\].* \[{low}, {high}\]"
            mistakes.append(Mistake(f"range_{dims}d", call(row), ValueError, text))
        return mistakes


class TestDownsampleCoords(ReachedCoordsContract):
    name, shape = "downsample_coords", "spatial_shape"

    @classmethod
    def samples(cls):
        # x leaves the range of a coordinate, but y makes no output at all
        edge = dict(kernel_size=1, stride=(1, 2, 1), padding=(1, 0, 0))
        return [*super().samples(), Sample("edge", {"coords": coords_of((0, LIMIT - 1, 1, 0))}, edge)]

    @classmethod
    def mistakes(cls):
        beyond = cls.call_of(coords_of((0, 0, 0, 0), (0, LIMIT - 1, 0, 0)), kernel_size=1, stride=1, padding=(1, 0, 0))
        text = r"coords row 1 = \[0, 131071, 0, 0\] makes an output coordinate outside \[-131072, 131071\]"
        capacity = cls.call_of(capacity=2.5)
        return [
            *super().mistakes(),
            Mistake("output", beyond, ValueError, text),
            Mistake("capacity", capacity, TypeError, "capacity must be a whole number > 0, got 2.5"),
        ]


class TestUpsampleCoords(ReachedCoordsContract):
    name, shape = "upsample_coords", "output_shape"

    @classmethod
    def samples(cls):
        # outside the borders, so that it does not matter that the coordinate has no key
        edge = dict(kernel_size=2, stride=2, output_shape=(LIMIT, 1, 1))
        return [*super().samples(), Sample("edge", {"coords": coords_of((0, LIMIT - 1, 0, 0))}, edge)]

    @classmethod
    def mistakes(cls):
        high = KEY_LIMITS[4][2]
        rows = coords_of((0, 0, 0, 0, high // 2), (0, 0, 0, 0, high // 2 + 1), dims=4)
        text = r"coords row 1 = \[0, 0, 0, 0, 4096\] makes an output coordinate outside \[-8192, 8191\]"
        return [*super().mistakes(), Mistake("output", cls.call_of(rows), ValueError, text)]
