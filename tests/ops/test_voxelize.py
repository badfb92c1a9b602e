# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from pcperc import ops
from tests import oracles
from tests.op_contract import DifferentiableOpContract, Mistake, Sample

GRID = {"voxel_size": (0.5, 0.25, 1.0), "point_range": (-2.0, -1.0, -3.0, 2.0, 1.0, 1.0)}
INF, NAN = float("inf"), float("nan")


def random_points(count, *, seed=0, columns=5):
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, columns, generator=generator)
    # a lattice of eighths is exact in every type, so that half precision finds the same voxels
    points[:, :3] = torch.round((points[:, :3] * torch.tensor([5, 3, 5]) - torch.tensor([2.5, 1.5, 3.5])) * 8) / 8
    return points


CLOUDS = {
    "empty": torch.zeros(0, 5),
    "one": torch.tensor([[0.5, 0.5, 0.0, 7.0, 0.1]]),
    "all_outside": torch.full((4, 5), 100.0),
    "borders": torch.tensor(
        [[-2.0, -1.0, -3.0, 1, 1], [2.0, 0, 0, 2, 2], [0, 1.0, 0, 3, 3], [0, 0, 1.0, 4, 4], [0, 0, 0, 5, 5]]
    ),
    "not_finite": torch.tensor([[NAN, 0, 0, 1, 1], [0, INF, 0, 2, 2], [0, 0, -INF, 3, 3], [0.1, 0.1, 0.1, 4, 4]]),
    "random": random_points(300),
}


def oracle_rows(points, max_points, max_voxels):
    return oracles.voxelize_hard(
        points.numpy(),
        voxel_size=GRID["voxel_size"],
        point_range=GRID["point_range"],
        max_points=max_points,
        max_voxels=max_voxels,
    )


class PointsContract(DifferentiableOpContract):
    differentiable = ("points",)

    @staticmethod
    def samples():
        limits = [(3, 1000), (1, 7), (100, 100)]
        return [
            Sample(f"{name}_{points}_{voxels}", {"points": cloud}, GRID | {"max_points": points, "max_voxels": voxels})
            for name, cloud in CLOUDS.items()
            for points, voxels in limits
        ]

    @staticmethod
    def overloads(sample):
        ops, points = torch.ops.pcperc, sample.tensors["points"]
        size, bounds = GRID["voxel_size"], GRID["point_range"]
        grid = (bounds[:3], bounds[3:], size, (8, 8, 4))
        keys = ops.voxel_keys(points, None, *grid, 1)
        order, starts, values, _ = ops.group_by_key(keys, 256)
        segments = (order, starts[:-1], starts.diff())
        return [
            (ops.voxel_keys.default, (points, torch.zeros_like(keys).int(), *grid, 1)),
            (ops.voxel_coords.default, (values, (8, 8, 4))),
            (ops.segment_mean.default, (points.nan_to_num(0).requires_grad_(), *segments)),
            (ops.segment_mean_backward.default, (torch.ones_like(points[: len(values)]), *segments, len(points))),
        ]

    def test_gradients(self, sample, device):
        """Coordinates choose the voxel, which has no derivative: points are moved off its borders first."""
        points = sample.tensors["points"][:25].double() + 0.01
        super().test_gradients(Sample(sample.name, {"points": points}, sample.options), device)


class TestVoxelizeHard(PointsContract):
    @staticmethod
    def call(sample):
        return ops.voxelize_hard(**sample.tensors, **sample.options)

    @staticmethod
    def oracle(sample):
        points, (max_points, max_voxels) = sample.tensors["points"], list(sample.options.values())[2:]
        coords, rows = oracle_rows(points, max_points, max_voxels)
        voxels = np.zeros((len(rows), max_points, points.shape[1]))
        for m, members in enumerate(rows):
            voxels[m, : len(members)] = points[members].numpy()
        return coords, voxels, np.array([len(members) for members in rows])

    @staticmethod
    def mistakes():
        points = CLOUDS["one"]

        def call(points=points, **options):
            return lambda: ops.voxelize_hard(points, **GRID | {"max_points": 3, "max_voxels": 5} | options)

        return [
            Mistake("columns", call(torch.zeros(4, 2)), ValueError, r"voxelize_hard: points must be .*got \(4, 2\)"),
            Mistake("dtype", call(torch.zeros(4, 4).int()), TypeError, "points must have a floating point dtype"),
            Mistake("size", call(voxel_size=(0.1, 0.0, 0.1)), ValueError, "voxel_size must be > 0"),
            Mistake("range", call(point_range=(0, 0, 0, 1, 1, 0)), ValueError, "lower < upper"),
            Mistake("limit", call(max_points=0), ValueError, "max_points must be a whole number > 0, got 0"),
            Mistake("limit_type", call(max_voxels=1.5), TypeError, "max_voxels"),
            Mistake("grid", call(voxel_size=(1e-6,) * 3), ValueError, "131072 voxels an axis"),
            Mistake(
                "batch", call(batch_index=torch.tensor([3]), batch_size=2), ValueError, r"\[0, 2\), got 3 in row 0"
            ),
            Mistake("batch_list", call(batch_index=[0]), TypeError, "batch_index must be a tensor, got list"),
            Mistake("batch_none", call(batch_size=2), ValueError, "batch_index must be given"),
        ]


class TestVoxelizeHardMean(PointsContract):
    @staticmethod
    def call(sample):
        return ops.voxelize_hard_mean(**sample.tensors, **sample.options)

    @staticmethod
    def oracle(sample):
        points, (max_points, max_voxels) = sample.tensors["points"], list(sample.options.values())[2:]
        coords, rows = oracle_rows(points, max_points, max_voxels)
        means = np.array([points[members].numpy().mean(0) for members in rows]).reshape(-1, points.shape[1])
        return coords, means, np.array([len(members) for members in rows])

    @staticmethod
    def mistakes():
        def call():
            return ops.voxelize_hard_mean(torch.zeros(4, 2), **GRID, max_points=1, max_voxels=1)

        return [Mistake("columns", call, ValueError, r"voxelize_hard_mean: points must be .*got \(4, 2\)")]


class TestVoxelizeMean(PointsContract):
    @staticmethod
    def samples():
        batches = torch.arange(300) % 3
        return [Sample(name, {"points": cloud}, GRID) for name, cloud in CLOUDS.items()] + [
            Sample("batched", {"points": CLOUDS["random"], "batch_index": batches * 2}, GRID | {"batch_size": 6})
        ]

    @staticmethod
    def call(sample):
        return ops.voxelize_mean(**sample.tensors, **sample.options)

    @staticmethod
    def mistakes():
        index = torch.tensor([0, 1])
        return [
            Mistake("index", lambda: ops.voxelize_mean(CLOUDS["one"], index, **GRID), ValueError, r"must be \(1,\)")
        ]

    @staticmethod
    def oracle(sample):
        points = sample.tensors["points"]
        batch = sample.tensors.get("batch_index", torch.zeros(len(points)).long()).tolist()
        members = {}
        for b in sorted(set(batch)):
            of_item = [n for n in range(len(points)) if batch[n] == b]
            coords, rows = oracle_rows(points[of_item], 10**6, 10**6)
            for cell, chosen in zip(coords.tolist(), rows, strict=True):
                members[(b, *cell)] = [of_item[n] for n in chosen]
        cells = sorted(members)
        point_to_voxel = np.full(len(points), -1, np.int64)
        for m, cell in enumerate(cells):
            point_to_voxel[members[cell]] = m
        means = np.array([points[members[cell]].numpy().mean(0) for cell in cells]).reshape(-1, points.shape[1])
        return np.array(cells, np.int32).reshape(-1, 4), means, point_to_voxel

    def test_gradients(self, sample, device):
        points = sample.tensors["points"][:25].double() + 0.01
        other = {name: t[:25] for name, t in sample.tensors.items() if name != "points"}
        DifferentiableOpContract.test_gradients(
            self, Sample(sample.name, {"points": points, **other}, sample.options), device
        )


def test_batched_hard_voxels_are_those_of_each_cloud(device):
    clouds = [random_points(120, seed=s) for s in range(3)] + [CLOUDS["empty"], random_points(40, seed=9)]
    limits = {"max_points": 2, "max_voxels": 11}
    joined = torch.cat(clouds).to(device)
    index = torch.cat([torch.full((len(c),), b) for b, c in enumerate(clouds)]).to(device)
    got = ops.voxelize_hard(joined, index, **GRID, **limits, batch_size=5)
    rows = 0
    for b, cloud in enumerate(clouds):
        alone = ops.voxelize_hard(cloud, **GRID, **limits)
        part = slice(rows, rows + len(alone.coords))
        assert (got.coords[part, 0] == b).all()
        assert torch.equal(got.coords[part, 1:].cpu(), alone.coords)
        assert torch.equal(got.voxels[part].cpu(), alone.voxels)
        rows = part.stop
    assert rows == len(got.coords)


def test_one_cloud_with_its_batch_index_is_the_cloud_without(device):
    cloud, limits = random_points(120, seed=4).to(device), {"max_points": 2, "max_voxels": 11}
    index = torch.zeros(len(cloud), dtype=torch.int32, device=device)
    got, alone = ops.voxelize_hard(cloud, index, **GRID, **limits), ops.voxelize_hard(cloud, **GRID, **limits)
    assert torch.equal(got.coords[:, 1:], alone.coords) and not got.coords[:, 0].any() and len(got.coords) == 11
    assert torch.equal(got.voxels, alone.voxels)


def test_points_of_no_cloud_are_dropped_where_nothing_looks(device):
    cloud, options = random_points(120, seed=4).to(device), {**GRID, "max_points": 2, "max_voxels": 11}
    index = torch.tensor([0, 1, 5, -1, 2**32, 1], device=device).repeat(20)
    inside = (index == 0) | (index == 1)
    got = ops.voxelize_hard_mean(cloud, index, batch_size=2, check_batch_index=False, **options)
    wanted = ops.voxelize_hard_mean(cloud[inside], index[inside], batch_size=2, **options)
    assert len(wanted.coords) == 22
    assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True))
    with pytest.raises(ValueError, match="voxelize_hard_mean: batch_size must be given without check_batch_index"):
        ops.voxelize_hard_mean(cloud, index, check_batch_index=False, **options)


@pytest.mark.realdata
def test_real_keyframe_has_the_published_number_of_voxels(realdata):
    (path,) = realdata.glob("nuscenes/keyframe_*/*LIDAR_TOP*.bin")
    points = torch.from_numpy(np.fromfile(path, np.float32).reshape(-1, 5).copy())
    voxels = ops.voxelize_hard_mean(
        points, voxel_size=(0.075, 0.075, 0.2), point_range=(-54, -54, -5, 54, 54, 3), max_points=10, max_voxels=160_000
    )
    assert len(voxels.coords) == pytest.approx(17_508, rel=0.005)


def test_a_compiled_program_drops_points_of_no_cloud():
    """The kernel alone looks at the values there: one that int32 does not hold must not become another cloud."""

    def program(points, batch_index):
        return ops.voxelize_mean(
            points, batch_index, voxel_size=(1, 1, 1), point_range=(0, 0, 0, 4, 4, 4), batch_size=2
        )

    torch._dynamo.reset()
    compiled = torch.compile(program, backend="eager", fullgraph=True, dynamic=True)
    points = torch.rand(40, 4) * 4
    batch_index = torch.randint(2, (40,))
    for got, wanted in zip(compiled(points, batch_index), program(points, batch_index), strict=True):
        assert torch.equal(got, wanted)
    kept = program(points[4:], batch_index[4:])
    batch_index[:4] = torch.tensor([2, -1, 2**32, 2**40 + 1])
    assert torch.equal(compiled(points, batch_index).feats, kept.feats)
