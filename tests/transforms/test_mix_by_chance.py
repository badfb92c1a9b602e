# SPDX-License-Identifier: Apache-2.0
"""What LaserMix and PolarMix leave to chance, over many seeds: areas, half turns, angles, and whether at all."""

import numpy as np
import pytest

from pcperc.transforms import LaserMix, PolarMix


def rows(columns: list[np.ndarray], number: int, labels: np.ndarray) -> dict:
    """A scan with these x, y, z, all of its points marked with ``number``."""
    count = len(labels)
    points = np.stack([*columns, np.full(count, number), np.zeros(count)], 1).astype(np.float32)
    sample = {"points": points, "point_labels": labels, "point_instances": np.zeros(count, np.int64)}
    return {**sample, "lidar_aug": np.eye(4), "num_recorded_points": count}


def mixes(transform, columns, labels, count: int):
    """What ``transform`` makes of scan 0 and scan 1, which have the same points, by generators of many seeds."""
    own, other = (rows(columns, number, labels) for number in (0, 1))
    for seed in range(count):
        yield transform({**own, "rng": np.random.default_rng(seed), "draw_other": lambda: other})


def test_laser_mix_has_three_to_six_areas_between_the_lowest_and_the_highest_beam():
    degrees = np.arange(-30, 10, 0.05) + 0.01
    columns = [np.zeros(len(degrees)), 10 * np.cos(np.radians(degrees)), 10 * np.sin(np.radians(degrees))]
    seen: list[int] = []
    for mixed in mixes(LaserMix(), columns, np.zeros(len(degrees), np.int64), 80):
        order = np.argsort(mixed["points"][:, 2])
        assert len(order) == len(degrees)
        borders = degrees[np.flatnonzero(np.diff(mixed["points"][order, 3])) + 1]
        number = len(borders) + 1
        np.testing.assert_allclose(borders, [-25 + 28 * k / number for k in range(1, number)], atol=0.06)
        seen.append(number)
    assert set(seen) == {3, 4, 5, 6} and min(map(seen.count, set(seen))) > 10


def test_polar_mix_by_chance():
    """Exchanging and pasting come with their own chances, any half turn is exchanged, and angles fill their parts."""
    azimuths = np.radians(np.arange(15, 375, 30))
    columns = [np.cos(azimuths), np.sin(azimuths), np.zeros(12)]
    labels = np.array([7] + [0] * 11)  # one object, at 15 degrees
    mix = PolarMix(paste_labels=(7,), swap_probability=0.5, paste_probability=0.3, num_turned=2)
    kinds, exchanged, angles = [], np.zeros(12), []
    for mixed in mixes(mix, columns, labels, 1200):
        degrees = np.degrees(np.arctan2(mixed["points"][:, 1], mixed["points"][:, 0])) % 360
        number = mixed["points"][:, 3]
        swap, paste = bool((number[:12] == 1).any()), len(number) > 12
        kinds.append((swap, paste))
        assert len(number) == 12 + 3 * paste and (number[12:] == 1).all() and (mixed["point_labels"][12:] == 7).all()
        if swap:
            assert np.allclose(np.sort(degrees[:12]), np.arange(15, 375, 30)), "each place from one of the two"
            assert (number[:12] == 1).sum() == 6
            exchanged[np.round((degrees[:12][number[:12] == 1] - 15) / 30).astype(int)] += 1
        if paste:
            assert degrees[12] == pytest.approx(15, abs=1e-3)
            angles.append((degrees[13:] - 15) % 360)
    shares = {kind: kinds.count(kind) / 1200 for kind in kinds}
    expected = {(True, True): 0.15, (True, False): 0.35, (False, True): 0.15, (False, False): 0.35}
    assert shares == pytest.approx(expected, abs=0.06)
    assert (exchanged > 0.3 * exchanged.sum() / 6).all()
    for part, turned in enumerate(np.array(angles).T):
        assert 120 * part <= turned.min() < 120 * part + 10 and 120 * part + 110 < turned.max() <= 120 * part + 120
