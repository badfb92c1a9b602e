# SPDX-License-Identifier: Apache-2.0
"""From scans to rows of points: places, voxels, the published variant, the training cap and bad coordinates."""

import math

import numpy as np
import pytest
import torch

from pcperc.models import VoxelPreprocessor


def cloud(seed: int, count: int = 200, reach: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 5, generator=generator)
    points[:, :3] = (points[:, :3] * 2 - 1) * reach
    return points


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.view(torch.int32), b.view(torch.int32))  # NaN equals itself


def prepare(clouds, *, training=False, device="cpu", **options):
    preprocessor = VoxelPreprocessor(0.25, **options).to(device)
    data = {"inputs": {"points": clouds}, "samples": [{"sample_token": f"08/{i:06d}"} for i in range(len(clouds))]}
    before = [c.clone() for c in clouds]
    prepared = preprocessor(data, training)["inputs"]["prepared"]
    assert "prepared" not in data["inputs"] and all(map(same, before, clouds))
    return prepared


def test_every_point_keeps_its_true_place(device):
    clouds = [cloud(0), cloud(1, 0), cloud(2, 50)]
    prepared = prepare(clouds, device=device, columns=(0, 1, 2))
    expected = [[i, *(p[axis].item() / 0.25 for axis in range(3))] for i, c in enumerate(clouds) for p in c]
    torch.testing.assert_close(prepared.points.coords.cpu(), torch.tensor(expected), rtol=0, atol=1e-5)
    assert torch.equal(prepared.points.feats.cpu(), torch.cat(clouds)[:, :3])
    assert prepared.points.batch_size == 3
    assert torch.equal(prepared.row_point.cpu(), torch.arange(250))
    assert torch.equal(prepared.point_row.cpu(), torch.arange(250))


def test_each_axis_has_its_edge_and_features_are_the_named_columns(device):
    points = cloud(9)
    prepared = VoxelPreprocessor((0.1, 0.25, 0.5), columns=(4, 2)).to(device).prepare([points.to(device)])
    expected = [[0, p[0].item() / 0.1, p[1].item() / 0.25, p[2].item() / 0.5] for p in points]
    torch.testing.assert_close(prepared.points.coords.cpu(), torch.tensor(expected), rtol=1e-6, atol=1e-5)
    assert prepared.points.feats.tolist() == [[p[4].item(), p[2].item()] for p in points]


@pytest.mark.parametrize("rounding", ["floor", "round"])
def test_voxels_lie_where_the_rounding_says(rounding):
    points = cloud(3)
    voxels = prepare([points], rounding=rounding).points.voxels().coords.tolist()
    nearest = math.floor if rounding == "floor" else round
    expected = {(0, *(nearest(p[axis].item() / 0.25) for axis in range(3))) for p in points}
    assert sorted(map(tuple, voxels)) == sorted(expected)


@pytest.mark.parametrize("rounding", ["floor", "round"])
def test_one_row_a_voxel_is_the_first_point_at_the_index_from_the_lowest(rounding, device):
    clouds = [cloud(4, 300), cloud(5, 100, reach=0.6)]
    prepared = prepare(clouds, device=device, points="one_per_voxel", rounding=rounding)
    coords, row_point, point_row = (t.cpu() for t in (prepared.points.coords, prepared.row_point, prepared.point_row))
    offset, seen = 0, 0
    for item, points in enumerate(clouds):
        cells = (np.round if rounding == "round" else np.floor)(points[:, :3].numpy() / np.float32(0.25)).astype(int)
        cells -= cells.min(0)
        first: dict[tuple, int] = {}
        for i, cell in enumerate(map(tuple, cells.tolist())):
            first.setdefault(cell, i)
            assert coords[point_row[offset + i]].tolist() == [item, *cell]
        for cell, i in first.items():
            row = int(point_row[offset + i])
            assert row_point[row] == offset + i
            assert torch.equal(prepared.points.feats[row].cpu(), points[i, :4])
            assert coords[row].tolist() == [item, *cell]
        offset, seen = offset + len(points), seen + len(first)
    assert len(coords) == seen < offset


@pytest.mark.parametrize("rows", ["all", "one_per_voxel"])
def test_the_cap_draws_whole_voxels_in_training_alone(rows):
    clouds = [cloud(6, 400), cloud(7, 5), cloud(8, 0)]
    whole = prepare(clouds, points=rows, max_voxels=60)
    capped = prepare(clouds, points=rows, max_voxels=60, training=True)
    batch = capped.points.voxels().coords[:, 0]
    assert torch.bincount(batch, minlength=3).tolist() == [60, 5, 0]
    assert len(whole.points) > len(capped.points)
    cells = whole.points.coords.floor()
    merged = torch.cat(clouds)
    for point, row in enumerate(capped.point_row.tolist()):
        own = cells[whole.point_row[point]]
        if row < 0:  # then its whole voxel is gone
            assert not (capped.points.coords.floor() == own).all(1).any()
        else:
            assert torch.equal(capped.points.coords[row].floor(), own)
    for row, point in enumerate(capped.row_point.tolist()):
        assert torch.equal(capped.points.feats[row], merged[point, :4])
        assert capped.point_row[point] == row
    other = prepare(clouds, points=rows, max_voxels=60, training=True)
    assert not torch.equal(other.row_point, capped.row_point)


@pytest.mark.parametrize("rows", ["all", "one_per_voxel"])
@pytest.mark.parametrize("sizes", [[0], [1], [0, 0], [1, 0, 1]])
def test_scans_of_no_point_or_one(sizes, rows):
    prepared = prepare([cloud(i, n) for i, n in enumerate(sizes)], points=rows, max_voxels=1, training=True)
    assert len(prepared.points) == len(prepared.row_point) == len(prepared.point_row) == sum(sizes)
    assert prepared.points.batch_size == len(sizes)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e5, -40_000.0])
def test_bad_coordinates_are_named(value):
    second = cloud(1)
    second[17, 1] = value
    with pytest.raises(ValueError, match=r"sample 08/000001 must be finite, .* 32768 m, got \[.*\] at point 17"):
        prepare([cloud(0), second])


def test_a_feature_that_is_not_finite_is_named():
    points = cloud(0)
    points[3, 3] = math.nan
    with pytest.raises(ValueError, match="sample 08/000000 must be finite"):
        prepare([points])
    prepare([points], columns=(0, 1, 2))


def test_refusals():
    for options, message in (
        (dict(voxel_size=0), "voxel_size must be one positive number or three, got 0"),
        (dict(voxel_size=(0.1, 0.1)), r"voxel_size must be one positive number or three, got \(0.1, 0.1\)"),
        (dict(max_voxels=0), "max_voxels must be >= 1 or None, got 0"),
        (dict(rounding="up"), "rounding must be one of floor, round, got 'up'"),
        (dict(points="some"), "points must be one of all, one_per_voxel, got 'some'"),
        (dict(columns=()), "columns must name one or more columns"),
    ):
        with pytest.raises(ValueError, match=message):
            VoxelPreprocessor(**options)
    with pytest.raises(ValueError, match=r"points must be \(N, 4\) or wider, got \(3, 3\)"):
        prepare([torch.zeros(3, 3)])
    with pytest.raises(ValueError, match="inputs must hold 'points'"):
        VoxelPreprocessor()({"inputs": {}, "samples": []})


def test_real_scan_has_the_known_number_of_voxels(realdata):
    scan = np.fromfile(realdata / "semantickitti/seq08/velodyne/000000.bin", "<f4").reshape(-1, 4)
    prepared = VoxelPreprocessor(0.05).prepare([torch.from_numpy(scan)])
    assert len(prepared.points.voxels().coords) == 94_444
