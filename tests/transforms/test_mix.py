# SPDX-License-Identifier: Apache-2.0
"""LaserMix and PolarMix point by point, and transforms that leave points of a labelled scan out."""

import math

import numpy as np
import pytest

from pcperc.transforms import (
    GlobalScaleRotateTranslate,
    GTPaste,
    LaserMix,
    PointsRangeFilter,
    PolarMix,
    RandomChoice,
    ShufflePoints,
)


def scan(seed: int, count: int = 400, **more) -> dict:
    """A labelled scan whose fourth column numbers its points, those of scan ``seed`` from 1000 * seed."""
    rng = np.random.default_rng(seed)
    azimuth, inclination = rng.uniform(-math.pi, math.pi, count), np.radians(rng.uniform(-40, 20, count))
    radius = rng.uniform(2, 50, count)
    points = np.zeros((count, 5), np.float32)
    points[:, 0], points[:, 1] = radius * np.cos(azimuth), radius * np.sin(azimuth)
    points[:, 2] = radius * np.tan(inclination)
    points[:, 3] = 1000 * seed + np.arange(count)
    labels, instances = rng.integers(0, 5, count), rng.integers(0, 4, count)
    instances[labels >= 3] = 0
    return {
        "sample_token": f"00/{seed:06d}",
        "points": points,
        "point_labels": labels,
        "point_instances": instances,
        "num_recorded_points": count,
        "lidar_aug": np.eye(4),
        "rng": np.random.default_rng(seed + 50),
        **more,
    }


def pair(seed: int = 0, **sizes) -> tuple[dict, dict]:
    """Scan 1, and scan 2 which it draws."""
    other = scan(2, sizes.get("other", 400))
    sample = scan(1, sizes.get("own", 400), rng=np.random.default_rng(seed))
    sample["draw_other"] = lambda: {**other, "rng": sample["rng"]}
    return sample, other


def rows_of(mixed: dict, own: dict, other: dict) -> list[tuple[dict, int]]:
    """Which scan and row each point of a mix is, by its number."""
    numbers = mixed["points"][:, 3].astype(int)
    return [(own if n < 2000 else other, n % 1000) for n in numbers]


@pytest.mark.parametrize("seed", range(4))
def test_laser_mix_takes_areas_in_turn(seed):
    own, other = pair(seed)
    mixed = LaserMix(num_areas=(4,), inclination_range_deg=(-25, 3))(own)
    taken = {(id(source), row) for source, row in rows_of(mixed, own, other)}
    for i, (source, row) in enumerate(rows_of(mixed, own, other)):
        np.testing.assert_array_equal(mixed["points"][i], source["points"][row])
        assert mixed["point_labels"][i] == source["point_labels"][row]
    edges = [-25 + 28 * k / 4 for k in range(1, 4)]
    origin: dict[int, set[int]] = {}
    for number, source in enumerate((own, other)):
        for row, (x, y, z) in enumerate(source["points"][:, :3].astype(float)):
            area = sum(math.degrees(math.atan2(z, math.sqrt(x * x + y * y))) >= edge for edge in edges)
            if (id(source), row) in taken:
                origin.setdefault(area, set()).add(number)
            else:
                origin.setdefault(area, set()).add(1 - number)
    # Each area comes whole from one scan, and its neighbours from the other.
    assert [len(origin[area]) for area in range(4)] == [1] * 4
    order = [origin[area].pop() for area in range(4)]
    assert order in ([0, 1, 0, 1], [1, 0, 1, 0])


def test_laser_mix_begins_with_either_scan():
    firsts = set()
    for seed in range(12):
        own, other = pair(seed)
        mixed = LaserMix(num_areas=(2,))(own)
        steep = mixed["points"][:, 2] < -np.tan(np.radians(30)) * np.hypot(*mixed["points"][:, :2].T)
        firsts |= set((mixed["points"][steep, 3] >= 2000).tolist())
    assert firsts == {True, False}


@pytest.mark.parametrize("seed", range(4))
def test_polar_mix_exchanges_half_a_turn(seed):
    own, other = pair(seed)
    mixed = PolarMix(paste_labels=(), swap_probability=1.0, paste_probability=0.0)(own)
    rows = rows_of(mixed, own, other)
    azimuths = {}
    for source in (own, other):
        kept = {row for s, row in rows if s is source}
        angles = np.arctan2(source["points"][:, 1], source["points"][:, 0])
        # The other's points that came, and the own ones that went.
        azimuths[id(source)] = angles[[row in kept if source is other else row not in kept for row in range(400)]]
        assert 100 < len(kept) < 300
    gone = np.sort(np.concatenate(list(azimuths.values())))
    gaps = np.diff(np.append(gone, gone[0] + 2 * math.pi))
    assert gaps.max() == pytest.approx(math.pi, abs=0.1)  # all in one half turn, which is full
    assert np.sort(gaps)[-2] < 0.2


def test_polar_mix_pastes_objects_as_they_are_and_turned():
    own, other = pair(3)
    mixed = PolarMix(paste_labels=(0, 2), swap_probability=0.0, num_turned=2)(own)
    np.testing.assert_array_equal(mixed["points"][:400], own["points"])
    chosen = np.isin(other["point_labels"], (0, 2))
    count = chosen.sum()
    copies = np.split(mixed["points"][400:], 3)
    assert [len(copy) for copy in copies] == [count] * 3
    np.testing.assert_array_equal(copies[0], other["points"][chosen])
    turned_by = []
    for copy in copies[1:]:
        np.testing.assert_array_equal(copy[:, 2:], copies[0][:, 2:])
        np.testing.assert_allclose(np.hypot(*copy[:, :2].T), np.hypot(*copies[0][:, :2].T), rtol=1e-6)
        angles = np.arctan2(copy[:, 1], copy[:, 0]) - np.arctan2(copies[0][:, 1], copies[0][:, 0])
        angles = np.mod(angles, 2 * math.pi)
        assert np.ptp(angles) < 1e-5
        turned_by.append(math.degrees(angles[0]))
    assert 0 <= turned_by[0] <= 120 <= turned_by[1] <= 240
    np.testing.assert_array_equal(mixed["point_labels"][400:], np.tile(other["point_labels"][chosen], 3))
    ids = np.split(mixed["point_instances"][400:], 3)
    sets = [set(own["point_instances"]) - {0}, *(set(part) - {0} for part in ids)]
    assert sum(map(len, sets)) == len(set.union(*sets)), "objects of different copies must have different ids"
    np.testing.assert_array_equal(ids[0] == 0, other["point_instances"][chosen] == 0)


@pytest.mark.parametrize("transform", [LaserMix(), PolarMix(paste_labels=(0, 1))], ids=["laser", "polar"])
def test_a_mix_follows_the_generator_and_changes_no_input(transform):
    own, other = pair(5)
    before = own["points"].copy(), other["points"].copy()
    first = transform({**own, "rng": np.random.default_rng(5)})
    for seed, same in ((5, True), (6, False)):
        again = transform({**own, "rng": np.random.default_rng(seed)})
        assert np.array_equal(first["points"], again["points"]) is same
    np.testing.assert_array_equal(before[0], own["points"])
    np.testing.assert_array_equal(before[1], other["points"])
    assert first.keys() == own.keys() - {"num_recorded_points"}
    assert len(first["points"]) == len(first["point_labels"]) == len(first["point_instances"])


def test_a_mixed_scan_forgets_the_way_back_of_its_own():
    near = PointsRangeFilter(point_range=(-20, -20, -9, 20, 20, 9))
    own, _ = pair(3)
    own = near(own)
    assert {"point_index", "recorded_labels", "num_recorded_points"} <= own.keys()
    for transform in (LaserMix(), PolarMix(paste_labels=(0,), swap_probability=1.0)):
        mixed = transform(own)
        assert not {"point_index", "recorded_labels", "num_recorded_points"} & mixed.keys()


@pytest.mark.parametrize("sizes", [{"own": 0}, {"other": 0}, {"own": 0, "other": 0}, {"own": 1, "other": 1}])
def test_mixing_empty_scans(sizes):
    for transform in (LaserMix(), PolarMix(paste_labels=(0,), swap_probability=1.0)):
        mixed = transform(pair(1, **sizes)[0])
        assert len(mixed["points"]) == len(mixed["point_labels"]) == len(mixed["point_instances"])
        assert mixed["points"].dtype == np.float32 and mixed["point_labels"].dtype == np.int64


def test_the_second_scan_has_its_own_transforms():
    own, other = pair(2)
    move = GlobalScaleRotateTranslate(scale_range=(2, 2), rotate_range=(0, 0), translate_std=0)
    mixed = PolarMix(paste_labels=(0,), transforms=[move], swap_probability=0.0, num_turned=0)(own)
    expected = other["points"][other["point_labels"] == 0, :3] * 2
    np.testing.assert_allclose(mixed["points"][400:, :3], expected, rtol=1e-6)
    assert LaserMix(transforms=[lambda sample: None])(own) is own
    assert LaserMix(probability=0.0)(own) is own


def test_points_that_are_left_out_keep_the_way_back():
    sample = scan(1)
    left = ShufflePoints()(PointsRangeFilter(point_range=(-10, -10, -5, 10, 10, 5))(sample))
    index = left["point_index"]
    assert 0 < len(index) < 400 and len(set(index)) == len(index)
    for key in ("points", "point_labels", "point_instances"):
        np.testing.assert_array_equal(left[key], sample[key][index])
    assert left["recorded_labels"] is sample["point_labels"]
    again = PointsRangeFilter(point_range=(-5, -5, -5, 5, 5, 5))(left)  # the way back is to what was recorded
    np.testing.assert_array_equal(again["points"], sample["points"][again["point_index"]])
    assert 0 < len(again["points"]) < len(index) and again["recorded_labels"] is sample["point_labels"]
    nothing = PointsRangeFilter(point_range=(900, 900, 900, 901, 901, 901))(sample)
    assert len(nothing["points"]) == len(nothing["point_labels"]) == len(nothing["point_index"]) == 0
    detection = {key: sample[key] for key in ("points", "lidar_aug", "rng")}
    assert "point_index" not in ShufflePoints()(detection)


def test_random_choice_draws_with_the_probabilities_given():
    sample = {"rng": np.random.default_rng(0)}
    mark = [lambda s, n=n: {**s, "marks": (*s.get("marks", ()), n)} for n in range(3)]
    choose = RandomChoice(choices=[mark[0], [mark[1], mark[2]]], probabilities=[0.25, 0.75])
    seen = [choose(sample)["marks"] for _ in range(400)]
    assert set(seen) == {(0,), (1, 2)} and 0.2 < seen.count((0,)) / 400 < 0.3
    for choices, probabilities in (([], None), (mark, [0.5, 0.5]), (mark, [1, 1, -1]), (mark, [1, 1, 1])):
        with pytest.raises(ValueError, match="RandomChoice: probabilities must"):
            RandomChoice(choices=choices, probabilities=probabilities)


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="num_areas must be >= 2"):
        LaserMix(num_areas=(1, 4))
    with pytest.raises(ValueError, match=r"swap_probability must be in \[0, 1\], got 2"):
        PolarMix(paste_labels=(), swap_probability=2)
    sample, _ = pair()
    with pytest.raises(KeyError, match="LaserMix: sample must have the key 'point_labels'"):
        LaserMix()({key: value for key, value in sample.items() if key != "point_labels"})
    with pytest.raises(ValueError, match=r"same columns, got 5 in 00/000001 and 4 in 00/000002"):
        LaserMix(transforms=[lambda other: {**other, "points": other["points"][:, :4]}])(sample)
    paste = GTPaste.__new__(GTPaste)
    with pytest.raises(ValueError, match="sample must have no point_labels"):
        paste({**sample, "boxes": None, "labels": None})
