# SPDX-License-Identifier: Apache-2.0
"""Clouds of fixed size: which points are in them, where the network sees them, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcperc.datasets import collate, rooms
from pcperc.models import FrustumPreprocessor, RoomPreprocessor, ShapePreprocessor, cloud_rooms
from pcperc.models.sampling import block_views, draw_view, whole_views


def shape(count, seed=0, **more):
    points = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return {"points": points, "point_labels": np.arange(count) % 4, "category": 3, "sample_token": f"s{seed}", **more}


def room(count, seed=0, size=(4.0, 3.0, 2.5)):
    rng = np.random.default_rng(seed)
    parts = rng.uniform(0, 1, (count, 3))
    return {
        "points": np.concatenate([parts * size, rng.uniform(0, 1, (count, 3)), parts], 1).astype(np.float32),
        "point_labels": rng.integers(0, 13, count),
        "sample_token": f"room{seed}",
    }


def prepare(preprocessor, *samples, training=False):
    return preprocessor(collate(list(samples)), training)["inputs"]["clouds"]


@given(count=st.integers(0, 40), size=st.integers(1, 12), votes=st.integers(1, 3))
def test_each_vote_has_every_point(count, size, votes):
    views = whole_views(count, size, votes=votes)
    assert views.shape == (votes * -(-count // size), size)
    for vote in views.reshape(votes, -1):
        times = torch.bincount(vote, minlength=count)
        assert len(times) == count and (count == 0 or times.max() - times.min() <= 1)
    assert torch.equal(views, whole_views(count, size, votes=votes))


@given(st.data())
def test_each_grid_has_every_point_and_blocks_are_not_mixed(data):
    count, size, grids = (data.draw(st.integers(low, high)) for low, high in ((0, 60), (1, 9), (1, 3)))
    xy = torch.from_numpy(np.random.default_rng(count).uniform(-3, 3, (count, 2)))
    views, lows = block_views(xy, size, block=1.5, grids=grids)
    assert views.shape[1] == size and set(views.flatten().tolist()) == set(range(count))
    assert count == 0 or torch.bincount(views.flatten()).min() >= grids
    lowest = xy.amin(0) if count else 0
    for view, low in zip(views, lows, strict=True):
        own, possible = xy[view], []
        for k in range(grids):
            cells = ((xy - lowest + 1.5 * k / grids) / 1.5).floor()
            if (cells[view] == cells[view[0]]).all():  # a view of this grid, or of another that happens to fit
                possible.append(xy[(cells == cells[view[0]]).all(1)].amin(0))
        assert (low <= own.amin(0)).all() and any(torch.equal(low, other) for other in possible)


def test_draws():
    rows = torch.arange(100, 107)
    for size in (3, 7, 20):
        times = torch.bincount(draw_view(rows, size) - 100, minlength=7)
        assert times.sum() == size and times.max() - times.min() <= 1
    twice = torch.cat([draw_view(rows, 7, replace=True) for _ in range(20)]).reshape(20, 7)
    assert any(len(set(view.tolist())) < 7 for view in twice) and set(twice.flatten().tolist()) == set(rows.tolist())


def test_shapes_are_drawn_with_replacement_where_that_is_asked_for():
    rows = {}
    for replace in (True, False):
        torch.manual_seed(0)
        preprocessor = ShapePreprocessor(40, replace=replace)
        rows[replace] = prepare(preprocessor, shape(50), training=True).point[0].tolist()
    assert len(set(rows[False])) == 40 and len(set(rows[True])) < 38


@pytest.mark.parametrize("training", [True, False])
def test_shapes_fill_the_unit_sphere(training, device):
    samples = shape(50, 0), shape(20, 1)
    preprocessor = ShapePreprocessor(32, jitter=(0.0, 0.0)).to(device)
    clouds = prepare(preprocessor, *samples, training=training)
    assert clouds.xyz.shape == (2 if training else 3, 32, 3) and clouds.item.tolist() == (
        [0, 1] if training else [0, 0, 1]
    )
    assert clouds.categories.tolist() == [3] * len(clouds.item)
    whole = np.concatenate([s["points"] for s in samples])
    for xyz, feats, point, item in zip(clouds.xyz, clouds.feats, clouds.point, clouds.item, strict=True):
        own = samples[int(item)]["points"][:, :3].astype(np.float64)
        radius = np.linalg.norm(own - own.mean(0), axis=1).max()
        expected = (whole[point.cpu()][:, :3] - own.mean(0)) / radius
        np.testing.assert_allclose(xyz.cpu(), expected, atol=1e-5)
        np.testing.assert_array_equal(feats[:, 3:].cpu(), whole[point.cpu()][:, 3:])
        assert torch.equal(feats[:, :3], xyz)


def test_jitter_is_small_clipped_and_of_training_alone():
    preprocessor = ShapePreprocessor(5000, jitter=(0.01, 0.02))
    sample = shape(5000)
    still = ShapePreprocessor(5000, jitter=(0.0, 0.0))
    torch.manual_seed(1)
    moved = prepare(preprocessor, sample, training=True)
    torch.manual_seed(1)
    offset = moved.xyz - prepare(still, sample, training=True).xyz
    assert 0.008 < offset.std() < 0.011 and offset.abs().max() <= 0.02 + 1e-6
    assert torch.equal(prepare(preprocessor, sample).xyz, prepare(still, sample).xyz)


def test_blocks_of_rooms_and_their_features(device):
    """x and y are measured from the lowest of all points of a block, as published, and not of those that were drawn."""
    sample = room(3000)
    preprocessor = RoomPreprocessor(256, block=1.5, blocks=3).to(device)
    points = sample["points"].astype(np.float64)
    xy = points[:, :2]
    cells = [np.floor((xy - xy.min(0) + shift) / 1.5) for shift in (0, 0.75)]
    blocks = {
        True: [(np.abs(sample["points"][:, :2] - middle) <= 0.75).all(1) for middle in sample["points"][:, :2]],
        False: [(grid == cell).all(1) for grid in cells for cell in np.unique(grid, axis=0)],
    }
    for training in (True, False):
        lowest, below = np.stack([xy[block].min(0) for block in blocks[training]]), []
        clouds = prepare(preprocessor, sample, training=training)
        assert clouds.categories is None and (not training or len(clouds.xyz) == 3)
        for xyz, feats, view in zip(clouds.xyz.cpu(), clouds.feats.cpu(), clouds.point.cpu(), strict=True):
            own = points[view]
            low = own[0, :2] - xyz[0, :2].numpy() - 0.75
            assert (np.ptp(own[:, :2], axis=0) <= 1.5 + 1e-5).all() and np.abs(lowest - low).max(1).min() < 1e-5
            below.append((low < own[:, :2].min(0) - 1e-5).any())
            own[:, :2] -= low + 0.75
            np.testing.assert_allclose(xyz, own[:, :3], atol=1e-5)
            np.testing.assert_allclose(feats, own, atol=1e-5)
        assert any(below)
    assert set(prepare(preprocessor, sample).point.flatten().tolist()) == set(range(3000))


@pytest.mark.parametrize(("grids", "votes"), [(1, 1), (3, 1), (1, 2), (2, 2)])
def test_every_grid_and_vote_sees_every_point(grids, votes):
    sample = room(400, size=(3.0, 3.0, 2.5))
    clouds = prepare(RoomPreprocessor(8, block=1.5, grids=grids, votes=votes), sample)
    times = torch.bincount(clouds.point.flatten(), minlength=400)
    assert times.min() >= grids * votes and times.float().mean() < 1.2 * grids * votes
    drawn = {tuple(sorted(view)) for view in clouds.point.tolist()}
    assert len(drawn) == len(clouds.point)  # no vote repeats another


def test_the_columns_of_rooms_are_those_of_their_data():
    assert cloud_rooms.ROOM_COLUMNS == rooms.ROOM_COLUMNS


def test_blocks_that_are_prepared_stay_as_they_are():
    points = np.random.default_rng(0).normal(size=(30, 9)).astype(np.float32)
    clouds = prepare(RoomPreprocessor(16, block=None), {"points": points})
    assert clouds.xyz.shape == (2, 16, 3)
    np.testing.assert_array_equal(clouds.feats, points[clouds.point])
    assert prepare(RoomPreprocessor(40, block=None), {"points": points}, training=True).xyz.shape == (1, 40, 3)


def test_equal_points_and_clouds_without_any():
    equal = shape(4)
    equal["points"][:] = 2.5
    clouds = prepare(ShapePreprocessor(8, jitter=(0.0, 0.0)), equal, training=True)
    assert (clouds.xyz == 0).all() and clouds.feats.isfinite().all()
    clouds = prepare(ShapePreprocessor(8), shape(0), equal)
    assert clouds.item.tolist() == [1]
    one = room(5)
    one["points"][:] = 1.0
    assert prepare(RoomPreprocessor(8), one).feats.isfinite().all()
    assert prepare(RoomPreprocessor(8), room(0) | {"points": np.zeros((0, 9), np.float32)}).xyz.shape == (0, 8, 3)


def test_says_what_is_wrong():
    def wrong(sample, message, training=False, preprocessor=None):
        with pytest.raises(ValueError, match=message):
            prepare(preprocessor or ShapePreprocessor(8), sample, training=training)

    wrong(shape(0), "ShapePreprocessor: sample s0 must have points to train on, got none", training=True)
    wrong(shape(5, category=16), r"ShapePreprocessor: category of sample s0 must be in \[0, 16\), got 16")
    without = shape(5)
    del without["category"]
    wrong(without, "category of sample s0 must be in .*, got None")
    nan = shape(5)
    nan["points"][3, 4] = np.nan
    wrong(nan, "points of sample s0 must be finite, got .* at point 3")
    far = shape(5)
    far["points"][2, 1] = 3e7
    message = r"must lie within 1.67772e\+07 of the origin, got .* at point 2"
    wrong(far, message)
    wrong({"points": far["points"][:, :4], "class_index": 0}, message, preprocessor=FrustumPreprocessor(8))
    wrong(
        {"points": np.zeros((3, 4))}, r"points of sample 0 must be \(N, 6\) or wider, x, y, z, nx, ny, nz, got \(3, 4\)"
    )
    wrong(
        shape(5),
        r"RoomPreprocessor: points of sample s0 must be \(N, 9\)",
        preprocessor=RoomPreprocessor(8, block=None),
    )
    with pytest.raises(ValueError, match="inputs must hold 'points', got"):
        ShapePreprocessor(8)({"inputs": {}, "samples": []})
    for make, message in (
        (lambda: ShapePreprocessor(0), "num_points must be >= 1, got 0"),
        (lambda: ShapePreprocessor(votes=0), "votes must be >= 1, got 0"),
        (lambda: ShapePreprocessor(jitter=(-1, 0)), "jitter must be >= 0"),
        (lambda: ShapePreprocessor(jitter=(float("nan"), 0)), r"jitter must be >= 0, .* got \(nan, 0\)"),
        (lambda: ShapePreprocessor(jitter=(0.1,)), "jitter must be >= 0, a deviation and the most of it"),
        (lambda: RoomPreprocessor(block=float("inf")), "block must be > 0 or None, got inf"),
        (lambda: FrustumPreprocessor(shift=float("nan")), "shift be >= 0, got .* and nan"),
        (lambda: RoomPreprocessor(block=0), "block must be > 0 or None, got 0"),
        (lambda: RoomPreprocessor(grids=0), "blocks and grids must be >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
