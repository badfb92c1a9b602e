# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from pcperc import ops
from tests import oracles_clouds
from tests.op_contract import DifferentiableOpContract, Mistake, Sample, assert_twice_differentiable
from tests.ops.batches import BATCH_SIZE, batch_of, items_of, with_gaps


def sample_of(name, cloud, resolution=3, normalize=True):
    points, batch = cloud
    tensors = {"points": points, "batch": batch, "feats": torch.randn(len(points), 2)}
    tensors["volume"] = torch.randn(BATCH_SIZE, 2, *[resolution] * 3)
    return Sample(name, tensors, {"resolution": resolution, "normalize": normalize}, terms_summed=64)


def grid_of(sample):
    points = sample.tensors["points"]  # in one type, so that all types of features meet the same voxels
    return ops.make_dense_grid(points.double(), items_of(sample.tensors["batch"]), **sample.options)


class DenseGridContract(DifferentiableOpContract):
    @staticmethod
    def samples():
        equal = (torch.ones(5, 3), torch.tensor([0, 0, 0, 0, 2]).int())
        return [
            sample_of("random", batch_of(20, 6, 9)),
            sample_of("cube", batch_of(20, 6, 9, scale=4.0), normalize=False),
            sample_of("one_voxel", batch_of(4, 3, 2), resolution=1),
            sample_of("all_equal", equal),
            sample_of("gaps", with_gaps()),
            sample_of("no_points", batch_of(0, 0, 0)),
        ]

    @staticmethod
    def place(sample):
        points, batch = (sample.tensors[n].numpy() for n in ("points", "batch"))
        options = sample.options
        return batch, oracles_clouds.places(points, batch, BATCH_SIZE, options["resolution"], options["normalize"])

    @staticmethod
    def overloads(sample):
        return []


class TestAvgVoxelize(DenseGridContract):
    differentiable = ("feats",)

    @staticmethod
    def call(sample):
        return (ops.avg_voxelize(sample.tensors["feats"], grid_of(sample)),)

    @staticmethod
    def oracle(sample):
        batch, place = DenseGridContract.place(sample)
        feats = sample.tensors["feats"].numpy()
        return (oracles_clouds.avg_voxelize(feats, place, batch, BATCH_SIZE, sample.options["resolution"]),)

    @staticmethod
    def mistakes():
        points, batch = batch_of(3, 3, 3)
        items = items_of(batch)
        grid = ops.make_dense_grid(points, items, resolution=2)
        extents = ops.cloud_extents(points, items, normalize=False)
        other = ops.CloudExtents(torch.zeros(1, 3), torch.ones(1, 1))
        elsewhere = ops.CloudExtents(torch.zeros(3, 3, device="meta"), torch.ones(3, 1, device="meta"))
        return [
            Mistake(
                "rows", lambda: ops.avg_voxelize(points[1:], grid), ValueError, "feats must have the grid's 9 rows, got"
            ),
            Mistake("grid", lambda: ops.avg_voxelize(points, items), TypeError, "grid must be a DenseGrid from"),
            Mistake("device", lambda: ops.avg_voxelize(points.to("meta"), grid), ValueError, "grid must be on meta"),
            Mistake(
                "resolution",
                lambda: ops.make_dense_grid(points, items, resolution=0),
                ValueError,
                "make_dense_grid: resolution must be a whole number > 0, got 0",
            ),
            Mistake(
                "large",
                lambda: ops.make_dense_grid(points, items, resolution=1024),
                ValueError,
                r"clouds \* resolution\^3 must be below 2\^31, got 3 \* 1024\^3",
            ),
            Mistake(
                "unscaled",
                lambda: ops.make_dense_grid(points, items, resolution=2, extents=extents),
                ValueError,
                "extents must be those of 3 clouds in torch.float32 and normalize=True, got unscaled ones",
            ),
            Mistake(
                "other_clouds",
                lambda: ops.make_dense_grid(points[:3], items_of(batch[:3]), resolution=2, extents=other),
                ValueError,
                r"extents must be those of 3 clouds .*, got scaled ones, \(1, 3\) float32",
            ),
            Mistake(
                "extents_elsewhere",
                lambda: ops.make_dense_grid(points, items, resolution=2, extents=elsewhere),
                ValueError,
                "extents must be on cpu",
            ),
            Mistake(
                "extents",
                lambda: ops.make_dense_grid(points, items, resolution=2, extents=points),
                TypeError,
                "make_dense_grid: extents must be CloudExtents from cloud_extents, got",
            ),
        ]


class TestTrilinearDevoxelize(DenseGridContract):
    differentiable = ("volume",)

    @staticmethod
    def call(sample):
        return (ops.trilinear_devoxelize(sample.tensors["volume"], grid_of(sample)),)

    @staticmethod
    def oracle(sample):
        batch, place = DenseGridContract.place(sample)
        return (oracles_clouds.trilinear_devoxelize(sample.tensors["volume"].numpy(), place, batch),)

    @staticmethod
    def mistakes():
        points, batch = batch_of(3, 3, 3)
        grid = ops.make_dense_grid(points, items_of(batch), resolution=2)
        volume = torch.zeros(3, 4, 2, 2, 2)
        expected = r"volume must be \(3, C, 2, 2, 2\) like the grid, got"
        return [
            Mistake("side", lambda: ops.trilinear_devoxelize(volume[..., :1], grid), ValueError, expected),
            Mistake("clouds", lambda: ops.trilinear_devoxelize(volume[:1], grid), ValueError, expected),
            Mistake("dtype", lambda: ops.trilinear_devoxelize(volume.int(), grid), TypeError, "floating point dtype"),
            Mistake("grid", lambda: ops.trilinear_devoxelize(volume, points), TypeError, "grid must be a DenseGrid"),
        ]


@pytest.mark.parametrize("normalize", [True, False])
def test_float32_points_lie_where_float64_ones_do(normalize, device):
    points, batch = (t.to(device) for t in batch_of(50, 20, 10, seed=7))
    volume = torch.randn(3, 4, 5, 5, 5, device=device)
    single = ops.make_dense_grid(points, items_of(batch), resolution=5, normalize=normalize)
    double = ops.make_dense_grid(points.double(), items_of(batch), resolution=5, normalize=normalize)
    assert torch.equal(single.voxels.index, double.voxels.index)
    out = ops.trilinear_devoxelize(volume, single)
    torch.testing.assert_close(out, ops.trilinear_devoxelize(volume, double), rtol=0, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_grids_of_several_resolutions_share_extents(normalize, device):
    points, batch = (t.to(device, torch.float64) for t in batch_of(50, 0, 10))
    items = items_of(batch.int())
    shared = ops.cloud_extents(points, items, normalize=normalize)
    for resolution in (3, 8):
        options = dict(resolution=resolution, normalize=normalize)
        place = oracles_clouds.places(points.cpu().numpy(), batch.cpu().numpy(), BATCH_SIZE, resolution, normalize)
        expected = np.ravel_multi_index(np.rint(place).astype(int).T, (resolution,) * 3)
        grid = ops.make_dense_grid(points, items, **options, extents=shared)
        assert (grid.voxels.index.cpu().numpy() % resolution**3 == expected).all()


def test_given_extents_are_used(device):
    points = torch.tensor([[1.0, 2.0, 3.0], [0.0, 2.0, 3.5]], device=device)
    items = ops.make_segments(torch.zeros(2, dtype=torch.int32, device=device), num_segments=1)
    centre = torch.tensor([[0.0, 2.0, 3.0]], device=device)
    scaled = ops.CloudExtents(centre, torch.tensor([[2.0]], device=device))  # u = (p - centre) / 4 + 0.5
    grid = ops.make_dense_grid(points, items, resolution=16, extents=scaled)
    assert grid.voxels.index.tolist() == [12 * 256 + 8 * 16 + 8, 8 * 256 + 8 * 16 + 10]
    cube = ops.make_dense_grid(points, items, resolution=16, normalize=False, extents=ops.CloudExtents(centre, None))
    assert cube.voxels.index.tolist() == [15 * 256 + 8 * 16 + 8, 8 * 256 + 8 * 16 + 12]  # (p - centre + 1) / 2


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_gpu_gives_the_bits_of_the_cpu(dtype):
    generator = torch.Generator().manual_seed(2)
    points = torch.randn(5000, 3, generator=generator, dtype=dtype)
    index, centres = torch.randint(-1, 4, (5000,), generator=generator).int(), torch.randn(3, 3, dtype=dtype) / 9
    distances = torch.ops.pcperc.centre_distances
    ours, theirs = distances(points, index, centres), distances(points.cuda(), index.cuda(), centres.cuda())
    assert torch.equal(theirs.cpu(), ours)
    for radii in (None, torch.tensor([[3.0], [0.0], [torch.nan]], dtype=dtype)):
        tensors = points, index, centres, radii
        ours = torch.ops.pcperc.grid_voxels(*tensors, 7)
        theirs = torch.ops.pcperc.grid_voxels(*(None if t is None else t.cuda() for t in tensors), 7)
        assert all(torch.equal(one.cpu(), other) for one, other in zip(theirs, ours, strict=True))


def test_operators_refuse_what_would_leave_their_buffers():
    points, index, centres = torch.zeros(5, 3), torch.zeros(5, dtype=torch.int32), torch.zeros(2, 3)
    for wrong, message in [
        ((points[:, :2], index, centres), "points and centres must have 3 columns"),
        ((points, index[1:], centres), "index must have one value a point"),
        ((points, index.long(), centres), "index must have dtype Int, got Long"),
        ((points, index, centres.double()), "centres must have dtype Float, got Double"),
        ((points, index, centres[:, :2]), "points and centres must have 3 columns"),
    ]:
        with pytest.raises(RuntimeError, match=f"centre_distances: {message}"):
            torch.ops.pcperc.centre_distances(*wrong)
        with pytest.raises(RuntimeError, match=f"grid_voxels: {message}"):
            torch.ops.pcperc.grid_voxels(*wrong, None, 4)
    for radii, resolution, message in [
        (torch.ones(3, 1), 4, "radii must have one value a cloud"),
        (torch.ones(2, 1).double(), 4, "radii must have dtype Float, got Double"),
        (None, 0, "resolution must be 1 or more and make at most"),
        (None, 1025, "resolution must be 1 or more and make at most"),
    ]:
        with pytest.raises(RuntimeError, match=f"grid_voxels: {message}"):
            torch.ops.pcperc.grid_voxels(points, index, centres, radii, resolution)


def test_the_operators_follow_their_schema(device):
    points, batch = (t.to(device) for t in batch_of(20, 6, 9))
    index = items_of(batch).index
    centres = torch.randn(3, 3, device=device)
    torch.library.opcheck(torch.ops.pcperc.centre_distances.default, (points, index, centres))
    for radii in (None, torch.ones(3, 1, device=device)):
        torch.library.opcheck(torch.ops.pcperc.grid_voxels.default, (points, index, centres, radii, 4))


def test_a_linear_function_survives_the_way_to_the_points(device):
    points, batch = (t.to(device, torch.float64) for t in batch_of(30, 20, 10))
    grid = ops.make_dense_grid(points, items_of(batch.int()), resolution=4)
    x = torch.arange(4.0, device=device, dtype=torch.float64)
    volume = (x[:, None, None] + 10 * x[:, None] + 100 * x).expand(3, 1, 4, 4, 4)
    place = oracles_clouds.places(points.cpu().numpy(), batch.cpu().numpy(), BATCH_SIZE, 4, True)
    expected = torch.as_tensor(place @ [1.0, 10, 100], device=device)
    torch.testing.assert_close(ops.trilinear_devoxelize(volume, grid)[:, 0], expected)


def test_double_backward(device):
    sample = sample_of("", batch_of(6, 3, 2), resolution=2).to(device, torch.float64)
    grid = grid_of(sample)

    def there_and_back(feats):
        return ops.trilinear_devoxelize(ops.avg_voxelize(feats, grid).square(), grid)

    assert_twice_differentiable(there_and_back, [sample.tensors["feats"].requires_grad_()])
