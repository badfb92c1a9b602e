# SPDX-License-Identifier: Apache-2.0
"""The object database, its building after a stop, and the pasting."""

import copy
import math

import numpy as np
import pytest

from pcperc.datasets.gt_database import build_gt_database
from pcperc.transforms import GTPaste
from pcperc.transforms.gt_database import GTDatabase
from pcperc.transforms.gt_paste import NUSCENES_COUNTS

CLASSES = ["car", "truck", "pedestrian"]


def box(x, y, z=0.0, size=(4.0, 2.0, 1.5), yaw=0.0, velocity=(1.0, 0.0)) -> list[float]:
    return [x, y, z, *size, yaw, *velocity]


def fill(boxes, number: int, seed: int) -> np.ndarray:
    """``number`` points well inside each box."""
    rng = np.random.default_rng(seed)
    clouds = []
    for x, y, z, length, width, height, yaw, *_ in boxes:
        forward, left, up = (rng.uniform(-0.45, 0.45, (number, 3)) * [length, width, height]).T
        xyz = [
            x + forward * math.cos(yaw) - left * math.sin(yaw),
            y + forward * math.sin(yaw) + left * math.cos(yaw),
            z + up,
        ]
        clouds.append(np.column_stack([*xyz, rng.uniform(0, 255, number), rng.uniform(0, 0.5, number)]))
    return np.concatenate([np.zeros((0, 5)), *clouds]).astype(np.float32)


class Samples:
    """Three samples, of four, no and two objects; one object has too few points, one an unknown velocity."""

    classes = CLASSES

    def __init__(self, stop_at: int | None = None):
        self.stop_at = stop_at
        self.read = []

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == self.stop_at:
            raise KeyboardInterrupt
        self.read.append(index)
        boxes = [
            [box(10, 0, -1.2, yaw=0.7), box(20, 0, 0.4), box(0, 15, size=(0.6, 0.6, 1.8)), box(-9, -9)],
            [],
            [box(30, 30, 1.1, velocity=(math.nan, math.nan)), box(-20, 5, size=(0.6, 0.6, 1.8))],
        ][index]
        points = fill(boxes[:3], 8, index)
        if index == 0:
            points = np.concatenate([points, fill(boxes[3:], 4, 9)])  # four points only
        clutter = np.array([[50, 50, 0, 1, 0]], np.float32)
        return {
            "points": np.concatenate([clutter, points]),
            "boxes": np.array(boxes, np.float32).reshape(-1, 9),
            "labels": np.array([[0, 1, 2, 0], [], [0, 2]][index], np.int64),
        }


@pytest.fixture
def database(tmp_path) -> GTDatabase:
    build_gt_database(Samples(), tmp_path / "gt", show_progress=False)
    return GTDatabase(tmp_path / "gt")


def sample(boxes, labels, points=None, seed: int = 0, **more) -> dict:
    return {
        "points": np.zeros((0, 5), np.float32) if points is None else points,
        "boxes": np.array(boxes, np.float32).reshape(-1, 9),
        "labels": np.array(labels, np.int64),
        "num_lidar_pts": np.full(len(labels), 7, np.int64),
        "rng": np.random.default_rng(seed),
        **more,
    }


def test_database_holds_objects_with_their_points(database):
    assert database.counts() == {"car": 2, "truck": 1, "pedestrian": 2} and len(database) == 5
    np.testing.assert_allclose(database.boxes("car")[:, :2], [[10, 0], [30, 30]])
    assert np.isnan(database.boxes("car")[1, 7:]).all()
    np.testing.assert_allclose(database.points("car", 0), fill([box(10, 0, -1.2, yaw=0.7)], 8, 0), atol=1e-5)
    everything = Samples()[2]["points"][1:]
    found = np.concatenate([database.points("car", 1), database.points("pedestrian", 1)])
    np.testing.assert_allclose(found, everything, atol=1e-5)


def test_copies_map_the_same_files(database):
    np.testing.assert_array_equal(copy.deepcopy(database).points("truck", 0), database.points("truck", 0))


@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_stopped_build_goes_on(tmp_path, stop_at):
    with pytest.raises(KeyboardInterrupt):
        build_gt_database(Samples(stop_at), tmp_path / "gt", show_progress=False)
    assert not (tmp_path / "gt").exists()
    with open(tmp_path / "gt.partial" / "index.jsonl", "a") as index:
        index.write('{"sample": 1, "obj')  # as a kill may leave it
    with open(tmp_path / "gt.partial" / "car.bin", "ab") as points:
        points.write(b"half an object")
    rest = Samples()
    build_gt_database(rest, tmp_path / "gt", show_progress=False)
    assert rest.read == list(range(stop_at, 3))
    build_gt_database(Samples(), tmp_path / "whole", show_progress=False)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "gt" / path.name).read_bytes(), path.name
    assert not (tmp_path / "gt.partial").exists()


def test_complete_build_is_kept_and_other_settings_start_anew(tmp_path):
    build_gt_database(Samples(), tmp_path / "gt", show_progress=False)
    again = Samples()
    assert build_gt_database(again, tmp_path / "gt", show_progress=False)["car"] == 2
    assert again.read == []
    counts = build_gt_database(again, tmp_path / "gt", min_points=3, overwrite=True, show_progress=False)
    assert counts["car"] == 3 and again.read == [0, 1, 2]
    assert build_gt_database(Samples(), tmp_path / "eight", min_points=8, show_progress=False)["car"] == 2
    with pytest.raises(KeyboardInterrupt):
        build_gt_database(Samples(2), tmp_path / "other", show_progress=False)
    assert build_gt_database(Samples(), tmp_path / "other", min_points=3, show_progress=False)["car"] == 3


def test_damaged_database_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"index\.jsonl is missing; tools/prepare_data\.py builds it"):
        GTDatabase(tmp_path / "gt")
    build_gt_database(Samples(), tmp_path / "gt", show_progress=False)
    with open(tmp_path / "gt" / "car.bin", "r+b") as file:
        file.truncate(30)
    with pytest.raises(ValueError, match=r"car\.bin must have 320 bytes, got 30; build it anew"):
        GTDatabase(tmp_path / "gt")


@pytest.mark.parametrize("line", ["xx\n", "[1]\n"])
def test_broken_index_is_named_and_begun_anew(tmp_path, database, line):
    text = (tmp_path / "gt" / "index.jsonl").read_text() + line
    (tmp_path / "gt" / "index.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"gt/index\.jsonl must have a JSON object on each line; build it anew"):
        GTDatabase(tmp_path / "gt")
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "index.jsonl").write_text(text)
    assert build_gt_database(Samples(), tmp_path / "new", show_progress=False) == database.counts()


def test_pastes_up_to_the_count_and_clears_the_place(database):
    scene = fill([box(20, 0, 0.4)], 30, 5)  # where the truck of the database stood
    others = np.concatenate([np.array([[-40, 0, 0, 1, 0]], np.float32), fill([box(0, -30)], 5, 6)])
    before = sample([box(0, -30)], [0], np.concatenate([scene, others]))
    after = GTPaste(database=database, counts={"car": 1, "truck": 3})(before)
    np.testing.assert_array_equal(after["labels"], [0, 1])  # a car is there already, there is one truck only
    np.testing.assert_allclose(after["boxes"][1], box(20, 0, 0.4))
    np.testing.assert_allclose(after["points"], np.concatenate([database.points("truck", 0), others]))
    np.testing.assert_array_equal(after["num_lidar_pts"], [7, 8])
    assert after["boxes"].dtype == after["points"].dtype == np.float32
    assert len(before["boxes"]) == 1 and len(before["points"]) == 36


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_pasted_onto_something(database, seed):
    occupied = sample([box(21, 1, z=9.0, yaw=1.2)], [2], seed=seed)  # above the truck: seen from above it overlaps
    after = GTPaste(database=database, counts={"car": 2, "truck": 1})(occupied)
    assert sorted(after["labels"]) == [0, 0, 2]
    behind = sample([box(23.8, 0.5)], [2], seed=seed)  # the ends alone overlap
    assert sorted(GTPaste(database=database, counts={"truck": 1})(behind)["labels"]) == [2]
    beside = sample([box(20, 2.05)], [2], seed=seed)
    assert sorted(GTPaste(database=database, counts={"truck": 1})(beside)["labels"]) == [1, 2]


def test_pasted_objects_do_not_overlap_each_other(tmp_path):
    class Stacked(Samples):
        def __getitem__(self, index):
            boxes = [box(10 + 0.5 * index, 0)]
            return {
                "points": fill(boxes, 8, index),
                "boxes": np.array(boxes, np.float32),
                "labels": np.array([index], np.int64),
            }

    build_gt_database(Stacked(), tmp_path / "gt", show_progress=False)
    paste = GTPaste(database=tmp_path / "gt", counts={"car": 5, "truck": 5, "pedestrian": 5})
    after = paste(sample([], []))
    np.testing.assert_array_equal(after["labels"], [0])


def test_the_published_counts():
    order = "car truck construction_vehicle bus trailer barrier motorcycle bicycle pedestrian traffic_cone"
    assert dict(zip(order.split(), (2, 3, 7, 4, 6, 2, 6, 6, 2, 2), strict=True)) == NUSCENES_COUNTS


def test_fade_out_follows_the_epoch_of_the_sample(database):
    paste = GTPaste(database=database, counts={"car": 2}, stop_epoch=15)
    assert len(paste(sample([], [], epoch=14))["boxes"]) == 2
    assert len(paste(sample([], [], epoch=15))["boxes"]) == 0
    assert len(GTPaste(database=database, counts={"car": 2})(sample([], [], epoch=99))["boxes"]) == 2
    assert len(GTPaste(database=database, counts={"car": 2}, enabled=False)(sample([], []))["boxes"]) == 0


def test_points_older_than_the_sample_s_sweeps_are_left_out(database):
    lags = database.points("truck", 0)[:, 4]
    limit = float(np.sort(lags)[3])  # the age of a point, which is not too old
    assert 0 < (lags <= limit).sum() < len(lags)
    pasted = GTPaste(database=database, counts={"truck": 1}, max_time_lag=limit)(sample([], []))
    np.testing.assert_allclose(pasted["points"], database.points("truck", 0)[lags <= limit])
    np.testing.assert_array_equal(pasted["num_lidar_pts"], [(lags <= limit).sum()])
    assert len(GTPaste(database=database, counts={"truck": 1}, max_time_lag=-1.0)(sample([], []))["boxes"]) == 0


def test_same_generator_same_paste(database):
    paste = GTPaste(database=database, counts={"car": 1, "pedestrian": 1})
    draws = [paste(sample([], [], seed=seed))["boxes"] for seed in (1, 1, 2, 3, 4, 5)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert any(not np.array_equal(draws[0], other, equal_nan=True) for other in draws[2:])


def test_unknown_class_is_named(database):
    with pytest.raises(ValueError, match=r"GTPaste: counts must name classes of .*, got \['tram'\]"):
        GTPaste(database=database, counts={"tram": 1})
