# SPDX-License-Identifier: Apache-2.0
import torch

from pcperc import ops
from tests import oracles, oracles_topology
from tests.op_contract import Mistake, OpContract, Sample
from tests.ops.clouds import CLOUDS, coords_of, random_coords

GEOMETRIES = {
    "subm_k3": dict(kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1), dilation=(1, 1, 1)),
    "subm_k5d2": dict(kernel_size=(5, 1, 3), stride=(1, 1, 1), padding=(4, 0, 2), dilation=(2, 1, 2)),
    "down_k2s2": dict(kernel_size=(2, 2, 2), stride=(2, 2, 2), padding=(0, 0, 0), dilation=(1, 1, 1)),
    "down_k3s2": dict(kernel_size=(3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1), dilation=(1, 1, 1)),
    "last_k113": dict(kernel_size=(1, 1, 3), stride=(1, 1, 2), padding=(0, 0, 0), dilation=(1, 1, 1)),
}


def out_coords_of(coords, geometry):
    if geometry["stride"] == (1, 1, 1):
        return coords
    return torch.from_numpy(oracles.downsample_coords(coords, **geometry))


class TestBuildKernelMap(OpContract):
    dtypes = (torch.float32,)

    @staticmethod
    def samples():
        clouds = {name: CLOUDS[name] for name in ("empty", "one", "random", "gap_in_batch")}
        return [
            Sample(f"{cloud}_{name}", {"in_coords": coords, "out_coords": out_coords_of(coords, geometry)}, geometry)
            for cloud, coords in clouds.items()
            for name, geometry in GEOMETRIES.items()
        ] + [
            Sample(
                "limits",
                {"in_coords": CLOUDS["limits"], "out_coords": CLOUDS["limits"]},
                GEOMETRIES["subm_k3"],
            ),
            *(
                Sample(
                    f"{name}_{dims}d",
                    {
                        "in_coords": random_coords(40, dims=dims),
                        "out_coords": random_coords(30, dims=dims, low=-2, high=2, seed=1),
                    },
                    {key: (*value, 2)[-dims:] for key, value in GEOMETRIES[name].items()},
                )
                for dims in (1, 2, 4)
                for name in ("subm_k5d2", "down_k3s2")
            ),
        ]

    @staticmethod
    def call(sample):
        return (ops.build_kernel_map(**sample.tensors, **sample.options),)

    @staticmethod
    def oracle(sample):
        return (oracles.kernel_map(**sample.tensors, **sample.options),)

    @staticmethod
    def overloads(sample):
        order = ("kernel_size", "stride", "padding", "dilation")
        arguments = (*sample.tensors.values(), *(list(sample.options[key]) for key in order))
        return [(torch.ops.pcperc.build_kernel_map.default, arguments)]

    @staticmethod
    def mistakes():
        one = CLOUDS["one"]

        def call(in_coords=one, out_coords=one, **options):
            return lambda: ops.build_kernel_map(in_coords, out_coords, **{"kernel_size": 3, "padding": 1} | options)

        repeated = coords_of((0, 1, 1, 1), (0, 2, 2, 2), (0, 1, 1, 1))
        return [
            Mistake("repeated", call(in_coords=repeated), ValueError, r"in_coords row 2\b"),
            Mistake("range", call(out_coords=coords_of((0, 0, 0, 1 << 20))), ValueError, r"out_coords row 0\b"),
            Mistake("dtype", call(in_coords=one.long()), ValueError, "in_coords must be .* int32"),
            Mistake("device", call(out_coords=one.to("meta")), ValueError, "out_coords must be on cpu"),
            Mistake("columns", call(out_coords=one[:, :3]), ValueError, "out_coords must have 4 columns"),
            Mistake("taps", call(kernel_size=17), ValueError, "4096"),
        ]


class TestReverseKernelMap(OpContract):
    dtypes = (torch.float32,)

    @staticmethod
    def samples():
        coords = CLOUDS["random"]
        found = []
        for name, geometry in GEOMETRIES.items():
            table = torch.from_numpy(oracles.kernel_map(coords, out_coords_of(coords, geometry), **geometry))
            found.append(Sample(name, {"neighbors": table}, {"num_inputs": len(coords)}))
        return [*found, Sample("empty", {"neighbors": torch.zeros(27, 0).int()}, {"num_inputs": 0})]

    @staticmethod
    def call(sample):
        return (ops.reverse_kernel_map(**sample.tensors, **sample.options),)

    @staticmethod
    def oracle(sample):
        table = oracles_topology.reverse_kernel_map(sample.tensors["neighbors"].numpy(), **sample.options)
        return (table,)

    @staticmethod
    def overloads(sample):
        return [
            (torch.ops.pcperc.reverse_kernel_map.default, (sample.tensors["neighbors"], sample.options["num_inputs"]))
        ]

    @staticmethod
    def mistakes():
        def call(rows, num_inputs):
            return lambda: ops.reverse_kernel_map(torch.tensor(rows, dtype=torch.int32), num_inputs=num_inputs)

        return [
            Mistake("too_high", call([[0, 5]], 5), ValueError, "5"),
            Mistake("twice", call([[0, 1, 0]], 2), ValueError, "twice|repeat"),
            Mistake("negative_size", call([[0]], -1), ValueError, "num_inputs must be >= 0, got -1"),
            Mistake("size", call([[0]], 2.5), TypeError, "num_inputs must be a whole number, got 2.5"),
            Mistake("shape", call([0, 1], 2), ValueError, r"neighbors must be \(K, M\) int32"),
        ]
