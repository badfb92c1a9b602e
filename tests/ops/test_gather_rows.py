# SPDX-License-Identifier: Apache-2.0
import numpy as np
import torch

from pcperc import ops
from tests.op_contract import DifferentiableOpContract, Mistake, Sample, assert_twice_differentiable


def sample_of(name, num_rows, *shape):
    rows = torch.randint(-1, num_rows + 1, shape, dtype=torch.int32, generator=torch.Generator().manual_seed(2))
    return Sample(name, {"feats": torch.randn(num_rows, 3), "rows": rows})


class TestGatherRows(DifferentiableOpContract):
    differentiable = ("feats",)

    @staticmethod
    def samples():
        return [
            sample_of("samples", 6, 5),
            sample_of("groups", 6, 4, 3),
            sample_of("no_feats", 0, 2, 2),
            sample_of("no_rows", 4, 0, 3),
        ]

    @staticmethod
    def call(sample):
        return (ops.gather_rows(**sample.tensors),)

    @staticmethod
    def oracle(sample):
        feats, rows = (sample.tensors[n].numpy() for n in ("feats", "rows"))
        out = np.zeros((*rows.shape, 3))
        for place in np.ndindex(rows.shape):
            if 0 <= rows[place] < len(feats):
                out[place] = feats[rows[place]]
        return (out,)

    @staticmethod
    def overloads(sample):
        return []

    @staticmethod
    def mistakes():
        feats, rows = torch.zeros(3, 2), torch.zeros(2).int()
        return [
            Mistake(
                "int64", lambda: ops.gather_rows(feats, rows.long()), ValueError, "gather_rows: rows must be int32"
            ),
            Mistake("list", lambda: ops.gather_rows(feats, [0]), TypeError, "rows must be a tensor, got list"),
            Mistake("vector", lambda: ops.gather_rows(feats[0], rows), ValueError, r"feats must be \(M, C\), got"),
            Mistake("device", lambda: ops.gather_rows(feats, rows.to("meta")), ValueError, "rows must be on cpu"),
        ]


def test_double_backward(device):
    sample = sample_of("", 6, 4, 3).to(device, torch.float64)
    feats = sample.tensors["feats"].requires_grad_()
    assert_twice_differentiable(lambda f: ops.gather_rows(f, sample.tensors["rows"]).square(), [feats])
