# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from pcperc.ops.group_by_key import group_by_key
from tests.op_contract import Mistake, OpContract, Sample


class TestGroupByKey(OpContract):
    dtypes = (torch.float32,)

    @staticmethod
    def samples():
        generator = torch.Generator().manual_seed(2)
        few = torch.randint(-2, 12, (300,), generator=generator)
        top = 2**63 - 1
        keys = {
            "empty": (torch.zeros(0, dtype=torch.int64), 5),
            "none_valid": (torch.tensor([-1, 7, 8, -(2**62)]), 7),
            "repeated": (few, 10),
            "power_of_two": (few, 8),
            "no_keys": (few, 0),
            "large": (torch.tensor([top - 1, 0, top, 2**62, top - 1, -1]), top),
        }
        return [Sample(name, {"keys": value}, {"num_keys": count}) for name, (value, count) in keys.items()]

    @staticmethod
    def call(sample):
        return group_by_key(**sample.tensors, **sample.options)

    @staticmethod
    def oracle(sample):
        keys, num_keys = sample.tensors["keys"].tolist(), sample.options["num_keys"]
        order = sorted((n for n in range(len(keys)) if 0 <= keys[n] < num_keys), key=lambda n: (keys[n], n))
        values = sorted({keys[n] for n in order})
        counts = [sum(keys[n] == value for n in order) for value in values]
        inverse = [values.index(key) if 0 <= key < num_keys else -1 for key in keys]
        arrays = order, np.cumsum([0, *counts]), values, inverse
        return tuple(np.array(a, np.int64) for a in arrays)

    @staticmethod
    def overloads(sample):
        return [(torch.ops.pcperc.group_by_key.default, (sample.tensors["keys"], sample.options["num_keys"]))]

    @staticmethod
    def mistakes():
        return [
            Mistake("list", lambda: group_by_key([1], num_keys=2), TypeError, "keys must be a tensor, got list"),
            Mistake("dtype", lambda: group_by_key(torch.zeros(3), num_keys=2), ValueError, r"must be \(N,\) int64"),
            Mistake(
                "shape",
                lambda: torch.ops.pcperc.group_by_key(torch.zeros(2, 2).long(), 2),
                RuntimeError,
                "contiguous, 1 dimension",
            ),
        ]


def int32(*values, device):
    return torch.tensor(values, dtype=torch.int32, device=device)


@pytest.mark.parametrize(
    ("order", "starts", "counts"),
    [((0, 10**8), 0, 2), ((0, -(10**8)), 0, 2), ((0,), 0, 2), ((0,), 0, 2**31 - 1), ((1, 0), -(10**8), 10**8 + 2)],
    ids=["row_too_high", "row_negative", "few_entries", "many_counts", "start_negative"],
)  # fmt: skip
def test_means_of_broken_segments_stay_inside_their_buffers(order, starts, counts, device):
    """What lies outside is left out; the sum of what is inside is still divided by ``counts``."""
    segments = int32(*order, device=device), int32(starts, device=device), int32(counts, device=device)
    feats = torch.tensor([[4.0, 8.0], [0.0, 0.0]], device=device)
    mean = torch.ops.pcperc.segment_mean(feats, *segments)
    torch.testing.assert_close(mean, feats[:1] / counts)
    grad = torch.ops.pcperc.segment_mean_backward(feats[:1], *segments, 2)
    torch.testing.assert_close(grad[0], feats[0] / counts)


@pytest.mark.parametrize(
    ("point", "source", "starts"),
    [((0, 10**8), (0, 0), (0, 2)), ((0, 1), (0, 10**8), (0, 2)), ((0, -9), (0, -9), (0, 2)), ((0,), (0,), (0, 10**8)),
     ((0,), (0,), (-(10**8), 1))],
    ids=["point_too_high", "source_too_high", "negative", "few_entries", "start_negative"],
)  # fmt: skip
def test_pooling_of_broken_segments_stays_inside_its_buffers(point, source, starts, device):
    target = torch.tensor([1], device=device)
    segments = [int32(*point, device=device), int32(*source, device=device), int32(*starts, device=device), target]
    feats, weight = torch.tensor([[3.0, 5.0], [0.0, 0.0]], device=device), torch.tensor([2.0, 0.0], device=device)
    pooled = torch.ops.pcperc.bev_pool(feats, weight, segments, [], 2)
    assert pooled.tolist() == [[0.0, 0.0], [6.0, 10.0]]
    grad = torch.ops.pcperc.bev_pool_weight_grad(feats, feats.flip(0), segments, 2)
    assert grad.tolist() == [34.0, 0.0]


@pytest.mark.gpu
@pytest.mark.parametrize(
    "call",
    [
        lambda host, gpu: torch.ops.pcperc.voxel_keys(
            gpu, host[:, 0].int(), [0.0] * 3, [1.0] * 3, [1.0] * 3, [1] * 3, 1
        ),
        lambda host, gpu: torch.ops.pcperc.segment_mean(gpu, *[host[:, 0].int()] * 3),
        lambda host, gpu: torch.ops.pcperc.bev_pool(gpu, host[:, 0].contiguous(), _segments(gpu), [], 3),
        lambda host, gpu: torch.ops.pcperc.bev_pool_weight_grad(gpu, gpu, _segments(host), 3),
        lambda host, gpu: torch.ops.pcperc.box_iou(gpu.double(), host.double(), False),
        lambda host, gpu: torch.ops.pcperc.points_in_boxes(gpu[:, :3].double().contiguous(), host.double()),
        lambda host, gpu: torch.ops.pcperc.points_in_boxes_mask(gpu[:, :3].double().contiguous(), host.double()),
    ],
    ids=["voxel_keys", "segment_mean", "bev_pool", "bev_pool_weight_grad", "box_iou", "points_in_boxes", "mask"],
)
def test_a_kernel_refuses_tensors_of_two_devices(call):
    host = torch.zeros(3, 8)
    with pytest.raises(RuntimeError, match="one CUDA device"):
        call(host, host.cuda())


def _segments(like):
    entries = torch.zeros(3, dtype=torch.int32, device=like.device)
    return [
        entries,
        entries,
        torch.zeros(4, dtype=torch.int32, device=like.device),
        torch.arange(3, device=like.device),
    ]
