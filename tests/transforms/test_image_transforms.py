# SPDX-License-Identifier: Apache-2.0
"""Image augmentation against a step-by-step account of it, and against the pixels themselves."""

import math

import numpy as np
import pytest

from pcperc.transforms import (
    Compose,
    GlobalScaleRotateTranslate,
    RandomFlip3D,
    ResizeCrop,
    ResizeCropFlipRotate,
)
from pcperc.transforms.images import augmentation_matrix, warp_image


def step_by_step(u, v, *, size, final_size, resize, bottom_crop, across, flip, rotate_deg):
    """Where a pixel goes: resized, cropped, mirrored, then turned counter-clockwise (as seen) about the middle."""
    (height, width), (final_height, final_width) = size, final_size
    u, v = (u + 0.5) * resize, (v + 0.5) * resize  # edges of the image now at 0 and width * resize
    v -= int((1 - bottom_crop) * int(height * resize)) - final_height
    u -= int(across * max(0, int(width * resize) - final_width))
    if flip:
        u = final_width - u
    right, up = u - final_width / 2, final_height / 2 - v
    angle = math.atan2(up, right) + math.radians(rotate_deg)
    radius = math.hypot(up, right)
    return final_width / 2 + radius * math.cos(angle) - 0.5, final_height / 2 - radius * math.sin(angle) - 0.5


def spot(image: np.ndarray) -> np.ndarray:
    """Centre (u, v) of the brightness of an image."""
    weight = image.astype(np.float64).sum(axis=2)
    v, u = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum()


def test_matrix_is_what_the_steps_do_for_1000_draws():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        draw = {
            "resize": rng.uniform(0.2, 1.5),
            "bottom_crop": rng.uniform(0, 0.3),
            "across": rng.uniform(),
            "flip": bool(rng.integers(2)),
            "rotate_deg": rng.uniform(-30, 30),
        }
        u, v = rng.uniform(0, 1600), rng.uniform(0, 900)
        moved = augmentation_matrix((900, 1600), (256, 704), **draw) @ [u, v, 1]
        expected = step_by_step(u, v, size=(900, 1600), final_size=(256, 704), **draw)
        np.testing.assert_allclose(moved, [*expected, 1], atol=1e-8)


def test_published_test_window_by_hand():
    # 900 x 1600 by 0.48 is 432 x 768; the window of 256 x 704 begins at row 432 - 256 and column (768 - 704) / 2.
    matrix = augmentation_matrix((900, 1600), (256, 704), resize=0.48)
    np.testing.assert_allclose(matrix, [[0.48, 0, -32 - 0.26], [0, 0.48, -176 - 0.26], [0, 0, 1]], atol=1e-12)
    assert (matrix @ [0, 899.5, 1])[1] == pytest.approx(255.5)  # the lower edge stays the lower edge


def test_points_land_where_raw_calibration_and_image_augmentation_put_them(make_sample, monkeypatch):
    monkeypatch.setattr("pcperc.transforms.images.warp_image", lambda image, *_: image)  # pixels: tests below
    chain = Compose([ResizeCropFlipRotate(), GlobalScaleRotateTranslate(), RandomFlip3D()])
    worst, seen = 0.0, 0
    for seed in range(1000):
        before = make_sample(seed, num_points=20)
        after = chain(before)
        for view in range(2):
            camera_points = before["lidar2camera"][view] @ homogeneous(before["points"])
            raw = before["camera2image"][view] @ camera_points[:3]
            expected = after["image_aug"][view] @ (raw / raw[2])
            undone = np.linalg.inv(after["lidar_aug"]) @ homogeneous(after["points"])
            pixel = after["camera2image"][view] @ (after["lidar2camera"][view] @ undone)[:3]
            found = after["image_aug"][view] @ (pixel / pixel[2])
            inside = (raw[2] > 1) & (np.abs(expected[0] - 352) < 352) & (np.abs(expected[1] - 128) < 128)
            seen += inside.sum()
            worst = max(worst, np.abs(found - expected)[:2, inside].max(initial=0))
    assert seen > 1000
    assert worst < 0.5


def homogeneous(points: np.ndarray) -> np.ndarray:
    """(N, 5) points as columns [x, y, z, 1]."""
    return np.vstack([points[:, :3].T.astype(np.float64), np.ones(len(points))])


@pytest.mark.parametrize("size", [(900, 1600), (899, 1597), (225, 400)])
def test_bright_dot_is_where_the_matrix_says(size):
    rng = np.random.default_rng(1)
    scale = 900 / size[0]
    transform = ResizeCropFlipRotate(resize_range=(0.38 * scale, 0.55 * scale), rotate_range_deg=(-20, 20))
    found = 0
    for seed in range(40):
        u, v = rng.integers(5, size[1] - 5), rng.integers(5, size[0] - 5)
        image = np.zeros((*size, 3), np.uint8)
        image[v - 1 : v + 2, u - 1 : u + 2] = 255
        sample = {"images": [image], "image_aug": np.eye(3)[None], "rng": np.random.default_rng(seed)}
        after = transform(sample)
        expected = (after["image_aug"][0] @ [u, v, 1])[:2]
        if not (6 < expected[0] < 698 and 6 < expected[1] < 250):
            continue
        found += 1
        assert np.abs(spot(after["images"][0]) - expected).max() < 0.3, (seed, expected)
    assert found >= 10


@pytest.mark.realdata
def test_bright_dot_on_the_real_keyframe(real_sample):
    rng = np.random.default_rng(2)
    transform = ResizeCropFlipRotate()
    found = 0
    for seed in range(4):
        dotted = [image.copy() for image in real_sample["images"]]
        places = [(rng.integers(20, 1580), rng.integers(400, 880)) for _ in dotted]
        for image, (u, v) in zip(dotted, places, strict=True):
            image[v - 3 : v + 4, u - 3 : u + 4] = [255, 0, 255]
        with_dot = transform({**real_sample, "images": dotted, "rng": np.random.default_rng(seed)})
        without = transform({**real_sample, "rng": np.random.default_rng(seed)})
        for view, (u, v) in enumerate(places):
            expected = (with_dot["image_aug"][view] @ [u, v, 1])[:2]
            if 8 < expected[0] < 696 and 8 < expected[1] < 248:
                found += 1
                changed = np.abs(with_dot["images"][view].astype(int) - without["images"][view])
                assert np.abs(spot(changed) - expected).max() < 1, (seed, view)
    assert found >= 8


@pytest.mark.parametrize("scale", [0.3, 0.45, 0.6, 1.0, 1.7])
def test_warp_keeps_a_ramp(scale):
    """A picture that is linear in its pixels is sampled exactly if averaging and interpolation are centred."""
    ramp = np.repeat(np.repeat(np.arange(200, dtype=np.float64)[None], 120, 0)[..., None], 3, 2)
    image = ramp.astype(np.uint8)
    matrix = augmentation_matrix((120, 200), (30, 40), resize=scale, across=0.5)
    warped = warp_image(image, matrix, (30, 40))
    u, v = np.meshgrid(np.arange(40), np.arange(30))
    source = np.linalg.inv(matrix) @ np.stack([u.ravel(), v.ravel(), np.ones(1200)])
    inside = (source[0] > 4) & (source[0] < 195) & (source[1] > 4) & (source[1] < 115)
    assert inside.sum() > 100
    assert np.abs(warped[..., 0].ravel() - source[0])[inside].max() <= 1.1  # rounding to uint8, twice


def test_fine_pattern_does_not_alias():
    """Stripes finer than the result's pixels become grey; picked pixels would show them as coarse false stripes."""
    stripes = np.zeros((900, 1600, 3), np.uint8)
    stripes[:, ::2] = 255
    warped = ResizeCrop()({"images": [stripes], "image_aug": np.eye(3)[None]})["images"][0]
    assert np.abs(warped.astype(int) - 128).max() <= 2


def test_outside_is_black_and_size_is_final():
    image = np.full((100, 100, 3), 200, np.uint8)
    after = ResizeCrop(final_size=(60, 80), resize=0.5)({"images": [image], "image_aug": np.eye(3)[None]})
    assert after["images"][0].shape == (60, 80, 3)
    assert after["images"][0][:9].max() == 0  # 50 rows at the bottom of 60, 50 columns at the left of 80
    assert after["images"][0][:, 51:].max() == 0
    assert after["images"][0][11:59, 1:49].min() == 200


def test_augmentations_compose(make_sample):
    """Two in a row: image_aug is the product."""
    image = np.zeros((900, 1600, 3), np.uint8)
    image[600:607, 800:807] = 255
    sample = {"images": [image], "image_aug": np.eye(3)[None]}
    chain = Compose([ResizeCrop(final_size=(400, 800), resize=0.5), ResizeCrop(final_size=(150, 300), resize=0.6)])
    after = chain(sample)
    expected = (after["image_aug"][0] @ [803, 603, 1])[:2]
    assert np.abs(spot(after["images"][0]) - expected).max() < 0.3
    np.testing.assert_array_equal(sample["image_aug"][0], np.eye(3))  # the input is left alone


def test_same_generator_same_result_and_cameras_differ(make_sample):
    first, second = (ResizeCropFlipRotate()(make_sample(3)) for _ in range(2))
    np.testing.assert_array_equal(first["image_aug"], second["image_aug"])
    assert not np.allclose(first["image_aug"][0], first["image_aug"][1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"final_size": (256, 0)}, r"final_size must be \(height, width\)"),
        ({"resize_range": (0.5, 0.4)}, r"resize_range must be \(low, high\)"),
        ({"resize_range": (0.0, 0.4)}, "resize_range must be positive"),
        ({"flip_probability": 1.5}, r"flip_probability must be in \[0, 1\]"),
        ({"rotate_range_deg": (1, 2, 3)}, "rotate_range_deg must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"ResizeCropFlipRotate: {message}"):
        ResizeCropFlipRotate(**arguments)


def test_missing_keys_and_wrong_matrices_are_named(make_sample):
    sample = make_sample()
    del sample["rng"]
    with pytest.raises(KeyError, match="ResizeCropFlipRotate: sample must have the key 'rng'"):
        ResizeCropFlipRotate()(sample)
    with pytest.raises(KeyError, match="ResizeCrop: sample must have the key 'images'"):
        ResizeCrop()({"points": 0})
    with pytest.raises(ValueError, match=r"image_aug must be \(2, 3, 3\)"):
        ResizeCrop()({**make_sample(), "image_aug": np.eye(3)[None]})
