# SPDX-License-Identifier: Apache-2.0
"""3D augmentation: boxes keep their points, velocities keep their meaning, lidar_aug tells the way back."""

import math

import numpy as np
import pytest

from pcperc.transforms import (
    BoxesClassFilter,
    BoxesRangeFilter,
    Compose,
    GlobalScaleRotateTranslate,
    PointsRangeFilter,
    RandomFlip3D,
    ShufflePoints,
    SquashIntensity,
)


def inside(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(N, K) whether a point lies in a box, by turning the point into the box's own axes."""
    out = np.zeros((len(points), len(boxes)), bool)
    for k, (x, y, z, length, width, height, yaw) in enumerate(boxes[:, :7].astype(np.float64)):
        dx, dy, dz = (points[:, :3].astype(np.float64) - [x, y, z]).T
        forward = dx * math.cos(yaw) + dy * math.sin(yaw)
        left = -dx * math.sin(yaw) + dy * math.cos(yaw)
        out[:, k] = (abs(forward) < length / 2) & (abs(left) < width / 2) & (abs(dz) < height / 2)
    return out


def fill_boxes(sample: dict, seed: int) -> None:
    """Put half of the points just inside and just outside the faces of the boxes."""
    rng = np.random.default_rng(seed)
    for i in range(len(sample["points"]) // 2):
        x, y, z, length, width, height, yaw = sample["boxes"][rng.integers(len(sample["boxes"])), :7]
        forward, left, up = rng.uniform(-0.55, 0.55, 3) * [length, width, height]
        sample["points"][i, :3] = [
            x + forward * math.cos(yaw) - left * math.sin(yaw),
            y + forward * math.sin(yaw) + left * math.cos(yaw),
            z + up,
        ]


TRANSFORMS = {
    "scale-rotate-translate": GlobalScaleRotateTranslate(),
    "flip-x": RandomFlip3D(flip_x_probability=1, flip_y_probability=0),
    "flip-y": RandomFlip3D(flip_x_probability=0, flip_y_probability=1),
    "all": Compose([GlobalScaleRotateTranslate(), RandomFlip3D(), GlobalScaleRotateTranslate()]),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("seed", range(5))
def test_boxes_move_with_their_points(make_sample, name, seed):
    before = make_sample(seed, images=False)
    fill_boxes(before, seed)
    after = TRANSFORMS[name](before)
    belonging = inside(before["points"], before["boxes"])
    assert belonging.sum() > 50
    differing = belonging != inside(after["points"], after["boxes"])
    assert differing.sum() <= 1  # a point within float32 rounding of a face
    assert not np.allclose(before["boxes"], after["boxes"])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_velocity_is_where_the_box_will_be(make_sample, name):
    """The centre half a second later, moved, is the moved centre plus half a second of the moved velocity."""
    before = make_sample(7, images=False)
    before["boxes"][0, 7:9] = np.nan
    after = TRANSFORMS[name](before)
    later = before["boxes"][:, :3].astype(np.float64)
    later[:, :2] += 0.5 * before["boxes"][:, 7:9]
    moved = (after["lidar_aug"] @ np.vstack([later.T, np.ones(len(later))]))[:2].T
    np.testing.assert_allclose(after["boxes"][:, :2] + 0.5 * after["boxes"][:, 7:9], moved, atol=1e-4)
    assert np.isnan(after["boxes"][0, 7:9]).all()
    assert np.isfinite(after["boxes"][1:]).all()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_heading_points_along_the_moved_heading(make_sample, name):
    before = make_sample(8, images=False)
    after = TRANSFORMS[name](before)
    heading = np.stack([np.cos(before["boxes"][:, 6]), np.sin(before["boxes"][:, 6])])
    moved = after["lidar_aug"][:2, :2] @ heading
    moved /= np.linalg.norm(moved, axis=0)
    found = np.stack([np.cos(after["boxes"][:, 6]), np.sin(after["boxes"][:, 6])])
    np.testing.assert_allclose(found, moved, atol=1e-5)


def test_lidar_aug_undoes_and_other_columns_stay(make_sample):
    before = make_sample(9, images=False)
    original = before["points"].copy()
    after = TRANSFORMS["all"](before)
    back = np.linalg.inv(after["lidar_aug"]) @ np.vstack([after["points"][:, :3].T, np.ones(len(original))])
    np.testing.assert_allclose(back[:3].T, original[:, :3], atol=1e-4)
    np.testing.assert_array_equal(after["points"][:, 3:], original[:, 3:])
    np.testing.assert_array_equal(before["points"], original)  # the input is left alone
    assert after["points"].dtype == after["boxes"].dtype == np.float32


def test_flips_by_hand(make_sample):
    sample = make_sample(images=False)
    sample["points"] = np.array([[1, 2, 3, 4, 5]], np.float32)
    sample["boxes"] = np.array([[1, 2, 3, 4, 2, 1, math.pi / 6, 3, -1]], np.float32)
    flip_x = TRANSFORMS["flip-x"](sample)
    np.testing.assert_allclose(flip_x["points"], [[-1, 2, 3, 4, 5]])
    np.testing.assert_allclose(flip_x["boxes"], [[-1, 2, 3, 4, 2, 1, math.pi * 5 / 6, -3, -1]], rtol=1e-6)
    flip_y = TRANSFORMS["flip-y"](sample)
    np.testing.assert_allclose(flip_y["boxes"], [[1, -2, 3, 4, 2, 1, -math.pi / 6, 3, 1]], rtol=1e-6)


def test_draws_lie_in_their_ranges_and_reach_the_ends(make_sample):
    transform = GlobalScaleRotateTranslate(scale_range=(0.9, 1.1), rotate_range=(-0.5, 0.5), translate_std=0.5)
    sample = make_sample(images=False, num_points=1)
    matrices = [transform({**sample, "rng": np.random.default_rng(i)})["lidar_aug"] for i in range(500)]
    scales = np.array([np.cbrt(np.linalg.det(m[:3, :3])) for m in matrices])
    angles = np.array([math.atan2(m[1, 0], m[0, 0]) for m in matrices])
    shifts = np.array([m[:3, 3] for m in matrices]) / scales[:, None]
    assert 0.9 <= scales.min() < 0.905 and 1.095 < scales.max() <= 1.1
    assert -0.5 <= angles.min() < -0.49 and 0.49 < angles.max() <= 0.5
    np.testing.assert_allclose(shifts.std(axis=0), 0.5, rtol=0.12)
    np.testing.assert_allclose(shifts.mean(axis=0), 0, atol=0.1)
    doubled = GlobalScaleRotateTranslate(scale_range=(2, 2), rotate_range=(0, 0), translate_std=0.5)
    shifts = [doubled({**sample, "rng": np.random.default_rng(i)})["lidar_aug"][:3, 3] for i in range(500)]
    np.testing.assert_allclose(np.std(shifts, axis=0), 1.0, rtol=0.12)  # moved before it is scaled


def test_turns_are_counter_clockwise_and_the_scale_is_of_the_move_too(make_sample):
    transform = GlobalScaleRotateTranslate(scale_range=(2, 2), rotate_range=(0.3, 0.4), translate_std=0.5)
    sample = make_sample(images=False, num_points=2)
    sample["points"][:, :3] = [[0, 0, 0], [1, 0, 0]]
    moved = np.stack([transform({**sample, "rng": np.random.default_rng(i)})["points"][:, :3] for i in range(400)])
    turned = (moved[:, 1] - moved[:, 0]) / 2
    angles = np.arctan2(turned[:, 1], turned[:, 0])
    assert 0.299 < angles.min() < 0.31 and 0.39 < angles.max() < 0.401
    np.testing.assert_allclose(moved[:, 0].std(axis=0), 1.0, rtol=0.15)


def test_flips_come_half_of_the_time_independently(make_sample):
    sample = make_sample(images=False, num_points=1)
    signs = [np.diag(RandomFlip3D()({**sample, "rng": np.random.default_rng(i)})["lidar_aug"])[:2] for i in range(400)]
    counts = np.unique(np.array(signs), axis=0, return_counts=True)[1]
    assert len(counts) == 4 and counts.min() > 70


def test_points_range_is_half_open():
    points = np.zeros((5, 5), np.float32)
    points[:, 0] = [-2, -1, 0, 1, 2]
    kept = PointsRangeFilter(point_range=(-1, -1, -1, 1, 1, 1))({"points": points})["points"]
    np.testing.assert_array_equal(kept[:, 0], [-1, 0])


def test_boxes_range_takes_centres_seen_from_above(make_sample):
    sample = make_sample(num_boxes=4)
    sample["boxes"][:, :3] = [[0, 0, 50], [-10, 3, 0], [10, 0, 0], [9.9, -9.9, 0]]
    kept = BoxesRangeFilter(point_range=(-10, -10, -1, 10, 10, 1))(sample)
    np.testing.assert_array_equal(kept["boxes"], sample["boxes"][[0, 1, 3]])
    np.testing.assert_array_equal(kept["labels"], sample["labels"][[0, 1, 3]])
    np.testing.assert_array_equal(kept["num_lidar_pts"], sample["num_lidar_pts"][[0, 1, 3]])


def test_boxes_class_filter(make_sample):
    sample = make_sample(num_boxes=4)
    sample["labels"] = np.array([0, 8, 3, 8])
    kept = BoxesClassFilter(labels=[8])(sample)
    np.testing.assert_array_equal(kept["boxes"], sample["boxes"][[1, 3]])


def test_shuffle_permutes(make_sample):
    sample = make_sample(images=False)
    shuffled = ShufflePoints()(sample)["points"]
    assert not np.array_equal(shuffled, sample["points"])
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(sample["points"], axis=0))


def test_empty_sample(make_sample):
    sample = make_sample(num_points=0, num_boxes=0, images=False)
    chain = Compose(
        [
            GlobalScaleRotateTranslate(),
            RandomFlip3D(flip_x_probability=1),
            PointsRangeFilter(point_range=(-1, -1, -1, 1, 1, 1)),
            BoxesRangeFilter(point_range=(-1, -1, -1, 1, 1, 1)),
            ShufflePoints(),
        ]
    )
    after = chain(sample)
    assert after["points"].shape == (0, 5) and after["boxes"].shape == (0, 9)


def test_compose_stops_at_none_and_builds_configs():
    never = Compose([lambda sample: None, lambda sample: 1 / 0])
    assert never({}) is None
    built = Compose([dict(type="ShufflePoints"), dict(type=PointsRangeFilter, point_range=(0, 0, 0, 1, 1, 1))])
    assert repr(built) == "Compose(ShufflePoints, PointsRangeFilter)"
    with pytest.raises(TypeError, match="Compose: transforms must be callable or configs, got 3"):
        Compose([3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GlobalScaleRotateTranslate(scale_range=(0, 1)), "scale_range must be positive"),
        (lambda: GlobalScaleRotateTranslate(translate_std=-1), "translate_std must be >= 0, got -1"),
        (lambda: GlobalScaleRotateTranslate(rotate_range=(1, float("nan"))), r"rotate_range must be \(low, high\)"),
        (lambda: RandomFlip3D(flip_y_probability=-0.1), r"flip_y_probability must be in \[0, 1\]"),
        (lambda: PointsRangeFilter(point_range=(0, 0, 0, 1, 1)), "PointsRangeFilter: point_range must be"),
        (lambda: BoxesRangeFilter(point_range=(0, 0, 0, 1, 1, 0)), "BoxesRangeFilter: point_range must be"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_intensities_without_a_bound(make_sample):
    sample = make_sample(images=False)
    sample["points"][:3, 3] = [0.0, 0.5, 139_264.0]
    before = sample["points"].copy()
    after = SquashIntensity()(sample)["points"]
    np.testing.assert_allclose(after[:3, 3], [0, math.tanh(0.5), 1], rtol=1e-6)
    np.testing.assert_array_equal(after[:, [0, 1, 2, 4]], before[:, [0, 1, 2, 4]])
    np.testing.assert_array_equal(sample["points"], before)
    with pytest.raises(KeyError, match="SquashIntensity"):
        SquashIntensity()({})
