# SPDX-License-Identifier: Apache-2.0
import torch

from pcperc import ops
from tests import oracles_clouds
from tests.op_contract import Mistake, OpContract, Sample
from tests.ops.batches import BATCH_SIZE, batch_of, items_of, lattice_batch, with_gaps


def sample_of(name, cloud, num_samples):
    return Sample(name, dict(zip(("points", "batch"), cloud, strict=True)), {"num_samples": num_samples})


class TestFurthestPointSample(OpContract):
    dtypes = (torch.float64, torch.float32)

    @staticmethod
    def samples():
        return [
            sample_of("random", batch_of(40, 7, 20), 8),
            sample_of("smaller_than_the_sample", batch_of(3, 0, 1), 5),
            sample_of("equal_distances", lattice_batch(), 5),
            sample_of("all_equal", (torch.ones(6, 3), torch.tensor([0, 0, 0, 0, 1, 1]).int()), 3),
            sample_of("gaps", with_gaps(), 20),
            sample_of("no_points", batch_of(0, 0, 0), 2),
        ]

    @staticmethod
    def call(sample):
        items = items_of(sample.tensors["batch"])
        return (ops.furthest_point_sample(sample.tensors["points"], items, **sample.options),)

    @staticmethod
    def oracle(sample):
        points, batch = (sample.tensors[n].numpy() for n in ("points", "batch"))
        return (oracles_clouds.furthest_point_sample(points, batch, BATCH_SIZE, **sample.options),)

    @staticmethod
    def overloads(sample):
        _, order, starts = items_of(sample.tensors["batch"])
        arguments = (sample.tensors["points"], order, starts, sample.options["num_samples"])
        return [(torch.ops.pcperc.furthest_point_sample.default, arguments)]

    @staticmethod
    def mistakes():
        points, batch = batch_of(4, 4, 4)
        items = items_of(batch)

        def call(points=points, items=items, num_samples=2):
            return lambda: ops.furthest_point_sample(points, items, num_samples=num_samples)

        return [
            Mistake("columns", call(points[:, :2]), ValueError, r"furthest_point_sample: points must be \(N, 3\), got"),
            Mistake("dtype", call(points.int()), TypeError, "points must have a floating point dtype"),
            Mistake("batch", call(items=batch), TypeError, "items of points must be Segments from make_segments, got"),
            Mistake("rows", call(points[1:]), ValueError, "items of points must have its 11 rows, got 12"),
            Mistake("device", call(points.to("meta")), ValueError, "items of points must be on meta like points"),
            Mistake("none", call(num_samples=0), ValueError, "num_samples must be a whole number > 0, got 0"),
        ]


def test_half_precision_points_are_compared_in_float32(device):
    points, batch = (t.to(device) for t in lattice_batch())
    items = items_of(batch)
    expected = ops.furthest_point_sample(points, items, num_samples=4)
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(ops.furthest_point_sample(points.to(dtype), items, num_samples=4), expected)


def test_more_points_than_a_block_of_threads_has(device):
    points, batch = batch_of(3000, 700, seed=5)
    found = ops.furthest_point_sample(points.to(device), items_of(batch.to(device), 2), num_samples=6).cpu()
    expected = oracles_clouds.furthest_point_sample(points.double().numpy(), batch.numpy(), 2, 6)
    assert torch.equal(found.long(), torch.from_numpy(expected))


def test_segments_that_are_wrong_stay_inside_the_buffers(device):
    points = torch.rand(4, 3)
    order = torch.tensor([9, -9, 2**31 - 1, 1], dtype=torch.int32)
    for starts in ([-5, 9, 2, 2**31 - 1], [4, 3, 2, 1]):
        tensors = (points, order, torch.tensor(starts, dtype=torch.int32))
        found = torch.ops.pcperc.furthest_point_sample(*(t.to(device) for t in tensors), 3).cpu()
        assert set(found.flatten().tolist()) <= {-1, 1}
